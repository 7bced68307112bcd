/**
 * Modules of `--policy` that throw.
 *
 * @module
 */

import { assertEquals, assertInstanceOf, assertStrictEquals } from "@std/assert";
import { type FreezePolicy, InputError } from "@firn/train";
import { sum } from "@firn/train/ops";
import { below, definePolicy, defineSignal, only } from "@firn/train/policies";
import { main } from "../../examples/finetune.ts";
import { failureOf } from "../../examples/flags.ts";
import { ownPolicy } from "../../examples/own_policy.ts";
import { policyOf } from "../../examples/policies.ts";
import { inFolder } from "../data/files.ts";
import { call, small, TEXT } from "./process.ts";

const own = { path: "own.ts", url: "file:///a/own.ts" };
const policy: Required<FreezePolicy> = {
  name: "own",
  signals: ["gradNorm"],
  measured: () => ["a"],
  init: () => 1,
  next: () => 2,
  frozen: () => ["b"],
  coming: () => ["c"],
  probed: () => ["d"],
  stopped: () => false,
  best: () => 3,
  reason: () => null,
};
const PARTS = Object.keys(policy).slice(2) as (keyof FreezePolicy)[];

/** What each part of a policy gives, or throws. */
function results(policy: FreezePolicy): Map<string, unknown> {
  return new Map(PARTS.map((part) => {
    try {
      return [part, (policy[part] as (() => unknown) | undefined)?.()];
    } catch (error) {
      return [part, error];
    }
  }));
}

Deno.test("ownPolicy leaves a policy as it is, but for what it throws: each part, by its name and place", () => {
  assertEquals(results(ownPolicy(policy, own)), results(policy));
  const { name, signals, init, next, frozen } = policy, least = { name, signals, init, next, frozen };
  assertEquals(Object.keys(ownPolicy(least, own)), Object.keys(least));
  const cause = new TypeError("x is not a function");
  cause.stack =
    `${cause}\n    at step (file:///a/other.ts:1:2)\n    at next (file:///a/own.ts:34:5)\n    at file:///a/own.ts:6:7`;
  for (const part of PARTS) {
    const thrower = ownPolicy({
      ...policy,
      [part]: () => {
        throw cause;
      },
    }, own);
    for (const [other, seen] of results(thrower)) {
      if (other !== part) continue;
      assertInstanceOf(seen, InputError, part);
      assertStrictEquals(seen.cause, cause);
      assertEquals(
        seen.message,
        `Cannot use "own.ts" as "${part}" of its policy "own" must not fail: ` +
          'it threw "TypeError: x is not a function" at 34:5; mend the module',
      );
    }
  }
});

Deno.test("ownPolicy names the signal of one's own that throws, and what is no error", () => {
  const signal = defineSignal({
    name: "mine",
    needs: ["z"],
    measure: () => {
      throw undefined;
    },
  });
  const [text, mine] = ownPolicy({ ...policy, signals: ["gradNorm", signal] }, own).signals;
  assertEquals([text, typeof mine === "object" && mine.needs], ["gradNorm", ["z"]]);
  const { message } = failureThrown(() => typeof mine === "object" && mine.terms({ moments: {} } as never));
  assertEquals(
    message,
    'Cannot use "own.ts" as "signal mine" of its policy "own" must not fail: it threw "undefined"; mend the module',
  );
});

Deno.test("ownPolicy asks a policy for what it measures by its own signals", () => {
  const signal = defineSignal({ name: "mine", measure: ({ weight }) => sum(weight) });
  const components = ["a", "b"].map((path) => ({
    path,
    parameters: [path],
    layer: null,
    kind: "other" as const,
    size: 1,
  }));
  const { signals, measured } = ownPolicy(only("a", below(signal, 1)), own);
  assertEquals(measured!(signals[0], components), ["a"]);
});

function failureThrown(run: () => unknown): InputError {
  try {
    run();
  } catch (error) {
    if (error instanceof InputError) return error;
  }
  throw new Error("It must throw");
}

Deno.test("definePolicy alone throws what a part of it throws, as it is", () => {
  const cause = new Error("mine");
  const policy = definePolicy({
    name: "own",
    init: () => 0,
    next: (s) => s,
    frozen: () => {
      throw cause;
    },
  });
  assertStrictEquals(results(policy).get("frozen"), cause);
});

Deno.test("a module that throws, or whose policy does while it trains, is told in one line", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/own.ts`, data = `${folder}/text.txt`;
    await Deno.writeTextFile(data, TEXT);
    await Deno.writeTextFile(path, `const a = 1;\nthrow new RangeError("mine\\nnext line");`);
    const loading = failureOf(await policyOf(path, {}).catch((error) => error), "finetune");
    assertEquals(loading, {
      code: 1,
      text:
        `finetune: Cannot use "${path}" as the module must not fail: it threw "RangeError: mine\\nnext line" at 2:7; mend the module`,
    });
    const late = `${folder}/late.ts`;
    await Deno.writeTextFile(
      late,
      `export default {
  name: "late", signals: [], frozen: () => [], next: () => 0,
  init: (_, run) => run.nothing.at(-1),
};`,
    );
    const args = [
      "--model",
      "examples/models/sotu",
      "--data",
      data,
      "--policy",
      late,
      "--out",
      `${folder}/out`,
    ];
    const { code, text } = failureOf(await call(main, small(args)), "finetune");
    assertEquals([code, text], [
      1,
      `finetune: Cannot use "${late}" as "init" of its policy "late" must not fail: ` +
      `it threw "TypeError: Cannot read properties of undefined (reading 'at')" at 3:33; mend the module`,
    ]);
  });
});
