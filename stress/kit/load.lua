-- Run by wrk: wrk ... -s load.lua URL -- METHOD SIZE CLOSE
-- One fixed request, with SIZE bytes of content; CLOSE is 1 for a connection per request. What was counted is
-- printed as JSON: wrk's own summary is rounded.

function init(args)
   -- The last three are ours: how many come before them (the URL is one) depends on wrk and getopt.
   local last = #args
   local size = tonumber(args[last - 1])
   wrk.method = args[last - 2]
   if size > 0 then
      wrk.body = string.rep("x", size)
   end
   if args[last] == "1" then
      wrk.headers["Connection"] = "close"
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "bytes": %d, "seconds": %.6f, "p50_us": %d, "p99_us": %d, "max_us": %d, "statuses": %d, ' ..
      '"connect": %d, "read": %d, "write": %d, "timeout": %d}\n',
      summary.requests, summary.bytes, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency.max,
      errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
