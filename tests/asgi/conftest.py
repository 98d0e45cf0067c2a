from tests.support.output import output_fixture as output_fixture
