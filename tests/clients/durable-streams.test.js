// Durable Streams' conformance suite. `vitest run -t` chooses the tests.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.FOLYAM_TEST_URL, longPollTimeoutMs: 5000 });
