/**
 * What an exchange costs on paper, and the table of it.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "@firn/train";
import { chooseExchange, exchangeSeconds } from "@firn/train/ranks";
import { exchangeTable } from "./exchange_table.ts";

Deno.test("an exchange takes bytes over the speed of the line, and the latency of its rounds", () => {
  const line = { bitsPerSecond: 8e6, latency: 0.5 };
  assertEquals(exchangeSeconds({ ...line, bytes: 4e6, ranks: 1 }), 0);
  // Of two ranks each sends half to be added up, and half as a sum.
  assertAlmostEquals(exchangeSeconds({ ...line, bytes: 4e6, ranks: 2 }), 4 + 2 * 0.5);
  assertAlmostEquals(exchangeSeconds({ ...line, bytes: 4e6, ranks: 5 }), 6.4 + 6 * 0.5);
  assertAlmostEquals(exchangeSeconds({ bytes: 4e6, ranks: 2, bitsPerSecond: 8e6 }), 4);
});

Deno.test("what is exchanged follows from the line: gradients, then parameters ever more rarely, at last what costs least", () => {
  const run = { trained: 1e9, ranks: 16, stepSeconds: 1, latency: 0 };
  const choiceAt = (gigabits: number) => {
    const { of, every, wire } = chooseExchange({ ...run, bitsPerSecond: gigabits * 1e9 });
    return `${of} ${every} ${wire}`;
  };
  assertEquals([1000, 100, 20, 10, 1, 0.001].map(choiceAt), [
    "gradients 1 f32",
    "parameters 10 f32",
    "parameters 10 int8",
    "parameters 50 int8",
    "parameters 500 int8",
    "parameters 500 int8",
  ]);
});

Deno.test("costs of impossible clusters are refused", () => {
  const good = { bytes: 1, ranks: 2, bitsPerSecond: 1 };
  for (const odd of [{ bytes: -1 }, { ranks: 0 }, { ranks: 1.5 }, { bitsPerSecond: 0 }, { latency: NaN }]) {
    assertThrows(() => exchangeSeconds({ ...good, ...odd }), InputError, Object.keys(odd)[0]);
  }
  assertThrows(() => chooseExchange({ ...good, trained: 1, stepSeconds: 0 }), InputError, "stepSeconds");
});

Deno.test("the table in the documentation of ranks has the numbers that are computed", async () => {
  const text = await Deno.readTextFile(new URL("../../core/train/ranks.ts", import.meta.url));
  const lines = text.split("\n").filter((line) => line.startsWith(" * |")).map((line) => line.slice(3));
  assertEquals(lines, exchangeTable());
});
