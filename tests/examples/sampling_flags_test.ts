/** How tokens are chosen by flags. */

import { assertEquals, assertThrows } from "@std/assert";
import { readFlags, UsageError } from "../../examples/flags.ts";
import { SAMPLING_FLAGS, samplingOf } from "../../examples/prompting.ts";

const of = (...args: readonly string[]) => samplingOf(readFlags(args, SAMPLING_FLAGS).values);

Deno.test("--top-k 0 and --no-repeat-ngram-size 0 are as if absent, as in other programs", () => {
  assertEquals(of("--top-k", "0", "--no-repeat-ngram-size", "0"), of());
  assertEquals(of("--top-k", "3").topK, 3);
});

Deno.test("flags that may be 0 say so where they are refused", () => {
  assertEquals(of("--temperature", "0").temperature, 0);
  for (const flag of ["--temperature", "--presence-penalty", "--frequency-penalty"]) {
    assertThrows(() => of(`${flag}=-1`), UsageError, `${flag} must be a number from 0: got "-1"`);
  }
});
