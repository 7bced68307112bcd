/** One token from scores. */

import { assertEquals, assertThrows } from "@std/assert";
import { NonFiniteError } from "@firn/train";
import { sampleToken } from "../../core/infer/sample.ts";

Deno.test("sampleToken refuses scores that are NaN or infinite, whatever the temperature", () => {
  const none = -Infinity;
  for (const scores of [[1, NaN], [NaN, 1], [NaN, NaN], [Infinity, 1], [none, none]]) {
    for (const temperature of [0, 1]) {
      const options = { temperature, seed: 0, position: 4 };
      assertThrows(() => sampleToken(new Float32Array(scores), options), NonFiniteError, "scores of token 5");
    }
  }
});

Deno.test("sampleToken never draws a token whose score is minus infinity", () => {
  const scores = new Float32Array([-Infinity, 1, -Infinity]);
  const ids = [0, 1, 2, 3].map((position) => sampleToken(scores, { temperature: 1, seed: 1, position }));
  assertEquals(ids, [1, 1, 1, 1]);
});
