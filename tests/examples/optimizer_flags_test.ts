/** The optimizer that flags make. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { readFlags, UsageError, type Values } from "../../examples/flags.ts";
import {
  checkGroups,
  checkOptimizer,
  OPTIMIZER_FLAGS,
  optimizerFlags,
  optimizerOf,
  trainerOf,
} from "../../examples/optimizer_flags.ts";

type Flags = Values<typeof OPTIMIZER_FLAGS> & {
  readonly lr: number;
  readonly steps: number;
  readonly "lora-plus": number | null;
};

function flagsOf(line: string, others: { readonly "lora-plus"?: number } = {}): Flags {
  const args = line === "" ? [] : line.split(" ");
  return { ...readFlags(args, OPTIMIZER_FLAGS).values, lr: 0.1, steps: 40, "lora-plus": null, ...others };
}

const nameOf = (line: string): string => optimizerOf(flagsOf(line)).name;

Deno.test("without flags the optimizer is AdamW behind clipping, with a cosine, and norms and biases do not decay", () => {
  assertEquals(
    nameOf(""),
    "clipByGlobalNorm(1) > adamW(cosine(0.1, warmup 2, steps 40, floor 0), weightDecay 0.01, of matrices)",
  );
});

Deno.test("every --optimizer and --schedule makes one of its own, scheduleFree with a constant rate", () => {
  const [optimizers, schedules] = (["optimizer", "schedule"] as const).map((flag) => {
    const words = OPTIMIZER_FLAGS[flag].placeholder.split("|");
    return [words.length, new Set(words.map((word) => nameOf(`--${flag} ${word}`))).size];
  });
  assertEquals([optimizers, schedules], [[8, 8], [8, 8]]);
  assert(nameOf("--optimizer scheduleFree").includes("scheduleFreeAdamW(constantRate(0.1, warmup 2)"));
});

Deno.test("--weight-decay, --clip, --warmup, --ema and --group are in the name of the optimizer", () => {
  assertEquals(
    nameOf(
      "--weight-decay 0.2 --clip 0 --warmup 0 --schedule linear --ema 0.99 --group *embed*:rate=0.5,decay=0",
    ),
    'partition(["*embed*"]: adamW(0.5 * linearRate(0.1, warmup 0, steps 40, floor 0), weightDecay 0), ' +
      '["*"]: adamW(linearRate(0.1, warmup 0, steps 40, floor 0), weightDecay 0.2, of matrices)) > weightAverage(0.99)',
  );
});

Deno.test("flags of the optimizer that say nothing, or too much, are refused", () => {
  const check = (line: string, others = {}) => () => checkOptimizer(flagsOf(line, others));
  for (const group of ["*embed*", ":rate=1", "a:rat=1", "a:rate=", "a:rate=-1", "a:rate=1;decay=2"]) {
    assertThrows(check(`--group ${group}`), UsageError, "--group must be GLOB:rate=X or GLOB:decay=X");
  }
  assertThrows(check("--warmup 41"), UsageError, "--warmup must be at most --steps 40: got 41");
  check("--warmup 40")();
  assertThrows(check("--ema 1"), UsageError, "--ema must be below 1");
  assertThrows(
    check("--optimizer lion", { "lora-plus": 4 }),
    UsageError,
    "--lora-plus makes groups of adamW",
  );
  assertThrows(() => flagsOf("--optimizer adamx"), UsageError, "--optimizer must be one of adamW, adamW8bit");
  check("--group a:b:rate=.5")();
});

Deno.test("a group of muon that names its decay has it for vectors and tables, too, which AdamW updates", () => {
  const groups = nameOf(
    "--optimizer muon --weight-decay 0.2 --group *.bias:decay=0.3 --group *embed*:rate=0.5",
  );
  const decays = [...groups.matchAll(/weightDecay ([\d.]+)/g)].map(([, decay]) => decay);
  // Matrices and all others: of the first group, the second one, and what is in none.
  assertEquals(decays, ["0.3", "0.3", "0.2", "0", "0.2", "0"]);
});

Deno.test("a group that no trained parameter belongs to is refused, and the paths that there are are told", () => {
  const paths = ["model.embed_tokens.weight", "model.norm.weight"];
  const check = (group: string) => () => checkGroups({ group: [group] }, paths);
  check("*embed*:rate=0.1")();
  check("model.norm.weight:decay=0")();
  assertThrows(
    check("embed:rate=0.1"),
    UsageError,
    '"embed" matches none of 2, which are model.embed_tokens.weight, model.norm.weight',
  );
});

Deno.test("commands keep optimizers of their own where flags say nothing, and tell so", () => {
  const flags = flagsOf("");
  const pretrain = {
    warmup: 0.02,
    floor: 0.05,
    adamW: { beta2: 0.95, weightDecay: 0.1 },
    decayed: "all",
  } as const;
  assertEquals(
    optimizerOf(flags, pretrain).name,
    "clipByGlobalNorm(1) > adamW(cosine(0.1, warmup 1, steps 40, floor 0.005000000000000001), beta2 0.95, weightDecay 0.1)",
  );
  const classify = { schedule: "linear", warmup: 0.1, decayed: "all" } as const;
  assertEquals(
    optimizerOf(flags, classify).name,
    "clipByGlobalNorm(1) > adamW(linearRate(0.1, warmup 4, steps 40, floor 0), weightDecay 0.01)",
  );
  assert(
    optimizerOf(flagsOf("--optimizer lion --schedule constant"), pretrain).name.includes(
      "lion(constantRate(0.1, warmup 1)",
    ),
  );
  const { schedule, warmup, "weight-decay": decay } = optimizerFlags(classify);
  assert(
    schedule.about.includes("linear when absent") && warmup.about.includes("10 %") &&
      decay.about.includes("of all"),
  );
});

Deno.test("trainerOf hands on what flags say of steps", () => {
  const { optimizer: _, ...others } = trainerOf(flagsOf("--accumulate 3 --memory 1GiB --on-nan skip"));
  assertEquals(others, { accumulate: 3, memory: "1GiB", nonFinite: "skip" });
});
