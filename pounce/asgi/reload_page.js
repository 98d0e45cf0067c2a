// Reloads the page it stands in when the server says so: the script of `--reload-browser` (see reload_page.py).
//
// A state is "PROCESS GENERATION FAILURE": which server process, the number of its last generation that was ready, and
// which failure of a later one is the present; 0 when there is none. The page has the state of the moment at which it
// was made; the event stream sends the present one, at once and whenever it changes. If they differ, the page is old.
//
// A browser opens at most six connections to one HTTP/1.1 server, for all of its tabs. So one tab leads: it has the
// stream, and tells the others what comes. A visible one leads, and the last of them; browsers may freeze the others.
(() => {
  "use strict";
  const script = document.currentScript;
  if (window.__pounce_reload__) return; // a framework has put the page's content in place of another page's
  window.__pounce_reload__ = true;

  const FIRST_DELAY = 20, LAST_DELAY = 5000, VISIBLE = 1e15; // milliseconds
  const url = script.src.replace(/\.js\?.*$/, "");
  const page = script.dataset.state.split(" ");
  let channel = null, source = null, claim = 0, timer = 0, delay = FIRST_DELAY, reloading = "";

  const isVisible = () => document.visibilityState === "visible";

  const tell = message => {
    if (channel) channel.postMessage(message);
  };

  const isOld = state => {
    const [process, generation, failure] = state.split(" ");
    return process !== page[0] || Number(generation) > Number(page[1]) || failure !== page[2];
  };

  // A page may come out of a cache, always of the same state. It is loaded again once for a state, and no more.
  const KEY = "pounce reload";
  const note = value => {
    try {
      const before = sessionStorage.getItem(KEY);
      if (value === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, value);
      return before;
    } catch {
      return null; // a sandboxed frame has no storage
    }
  };

  const hear = state => {
    if (!isOld(state)) {
      note(null);
    } else if (reloading !== state) {
      reloading = state;
      const which = state + " " + location.href;
      if (note(which) !== which) location.reload();
      else console.warn("Pounce: this page comes out of a cache; it is not reloaded again.");
    }
  };

  const close = () => {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
    claim = 0;
  };

  const lead = () => {
    close();
    claim = (isVisible() ? VISIBLE : 0) + Date.now() + Math.random();
    tell({ claim });
    open();
  };

  // Not left to EventSource, which waits as long after a stream that a worker has ended as after one that is refused, and
  // gives up where the answer is an error.
  const open = () => {
    source = new EventSource(url);
    source.onmessage = event => {
      delay = FIRST_DELAY;
      tell({ state: event.data });
      hear(event.data);
    };
    source.onerror = () => {
      source.close();
      timer = setTimeout(open, delay);
      delay = Math.min(2 * delay, LAST_DELAY);
    };
  };

  const join = () => {
    if ("BroadcastChannel" in window) {
      channel = new BroadcastChannel("pounce " + url);
      channel.onmessage = ({ data }) => {
        if (data.state) {
          hear(data.state);
        } else if (data.left) {
          if (isVisible()) lead();
        } else if (data.claim > claim) { // of two that claim it at once, the later one leads
          close();
        } else if (source) {
          tell({ claim });
        }
      };
    }
    lead();
  };

  // A browser keeps no page for its back button that has a stream open, or hears of a message while it is kept.
  const leave = () => {
    if (source) tell({ left: true });
    close();
    if (channel) channel.close();
    channel = null;
  };

  document.addEventListener("visibilitychange", () => {
    if (isVisible()) lead();
    else if (source) tell({ left: true }); // goes on leading if there is no other
  });
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", event => {
    if (event.persisted) join(); // as it was when it was left: the stream says whether it is old
  });
  join();
})();
