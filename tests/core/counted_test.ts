/** Counts in texts for people. */

import { assertEquals } from "@std/assert";
import { counted } from "../../core/counted.ts";

Deno.test("counted gives a noun the number of its count, which may be a text", () => {
  const nouns = ["step", "batch", "entry", "epoch", "class", "box", "key", "launch", "more change"];
  const many = [
    "steps",
    "batches",
    "entries",
    "epochs",
    "classes",
    "boxes",
    "keys",
    "launches",
    "more changes",
  ];
  assertEquals(nouns.map((noun) => counted(1, noun)), nouns.map((noun) => `1 ${noun}`));
  for (const count of [0, 2, 21, "1,001", "0.5"]) {
    assertEquals(nouns.map((noun) => counted(count, noun)), many.map((noun) => `${count} ${noun}`));
  }
  assertEquals(counted("1", "token"), "1 token");
});
