/**
 * Medians, waits and turns.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertLess } from "@std/assert";
import { type Contender, idleWait, median, race, spreadOf, start, turn } from "./measure.ts";
import { PRODUCT } from "./sides.ts";

/** Takes milliseconds a step, and as many to find that it is idle. */
function sleeper(name: string, { step, idle }: { readonly step: number; readonly idle: number }) {
  let queued = 0, taken = 0;
  const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
  const order: string[] = [];
  const contender: Contender = {
    name,
    side: PRODUCT,
    step() {
      queued++;
      taken++;
    },
    async settle() {
      if (queued > 0) order.push(name);
      await sleep(idle + step * queued);
      queued = 0;
    },
    loss: () => Promise.resolve(taken),
    memory: () => null,
    close() {},
  };
  return { contender, order, taken: () => taken };
}

Deno.test("median takes the middle, or the mean of the middle two, in any order", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 3, 2]), 2.5);
  assertEquals(median([7]), 7);
});

Deno.test("spreadOf keeps the ends", () => {
  assertEquals(spreadOf([3, 1, 2]), { median: 2, min: 1, max: 3 });
});

Deno.test("turn takes the wait on an idle device off", async () => {
  const { contender } = sleeper("slow to wait", { step: 5, idle: 20 });
  const idle = await idleWait(contender);
  assertLess(19, idle);
  // Timers are late by a millisecond or a few, never early by one.
  assertAlmostEquals(await turn(contender, 10, idle), 50, 15);
});

Deno.test("start counts the steps to the loss", async () => {
  const { contender } = sleeper("counted", { step: 0, idle: 0 });
  assertEquals((await start(contender, 5)).loss, 5);
});

Deno.test("race gives every contender a turn in each round, and the time of one piece of work", async () => {
  const fast = sleeper("fast", { step: 2, idle: 0 }), slow = sleeper("slow", { step: 20, idle: 0 });
  const four = { ...slow.contender, perStep: 4 };
  const times = await race([fast.contender, four], { rounds: 3, turn: 20, warmUp: 5 });
  assertEquals(times.map((t) => t.length), [3, 3]);
  // A step of 20 ms with four pieces.
  assertAlmostEquals(median(times[1]), 5, 2);
  assertLess(median(times[0]), median(times[1]));
});

Deno.test("race goes through the contenders there and back", async () => {
  const order: string[] = [];
  const contenders = ["a", "b", "c"].map((name) => {
    const { contender } = sleeper(name, { step: 2, idle: 0 });
    return { ...contender, step: () => (contender.step(), void order.push(name)) };
  });
  await race(contenders, { rounds: 2, turn: 1, warmUp: 1 });
  const turns = order.filter((name, i) => name !== order[i - 1]);
  assertEquals(turns.join(""), "abc" + "abcba");
});
