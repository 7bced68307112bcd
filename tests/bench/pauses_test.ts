import { assertEquals } from "@std/assert";
import { pausesIn } from "./pauses.ts";

const call = (ms: number, exchangeMs = 0) => ({ ms, exchangeMs });

Deno.test("pauses are calls that take three times as long as most of their kind, told with their step", () => {
  const calls = [call(10), call(11), call(240), call(9), call(700, 183), call(29), call(10), call(650, 52)];
  assertEquals(
    pausesIn(calls),
    "8 steps; submitted in 11.0 ms; with an exchange over in 700.0 ms; pauses: 240 ms at 3; exchanges: 183, 52 ms",
  );
  assertEquals(
    pausesIn([call(10), call(11), call(12)]),
    "3 steps; submitted in 11.0 ms; no pause",
  );
});

Deno.test("where each step has an exchange, one that waits for another rank is a pause, and their range is told", () => {
  const calls = Array.from({ length: 12 }, (_, i) => call(i === 7 ? 570 : 160, i === 7 ? 356 : 100 + i));
  assertEquals(
    pausesIn(calls),
    "12 steps; with an exchange over in 160.0 ms; pauses: 570 ms at 8; exchanges: 100 to 356 ms",
  );
});
