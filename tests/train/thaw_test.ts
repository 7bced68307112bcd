import { assertEquals, assertNotEquals } from "@std/assert";
import { adamW, defineTraining, type Path, scan, type Signal, type TrainingState } from "@firn/train";
import { bits, bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled, valuesOf } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { earlierSettings } from "../../core/checkpoint/earlier_settings.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 8;
const batches = pairs(STEPS);

/** What is known after each step; `bottom` is frozen from step 2 to step 5, so not moved by steps 3, 4 and 5. */
interface Taken {
  readonly state: TrainingState<Mlp>;
  readonly bits: Readonly<Record<Path, readonly number[]>>;
}

const schedule = [{ from: 2, frozen: ["bottom"] }, { from: 5, frozen: [] }];

async function run(signals: readonly Signal[]): Promise<Taken[]> {
  const training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.05 }),
    steps: STEPS,
    lookEvery: 1,
    policy: scheduled(schedule, signals),
  });
  const records: Taken[] = [];
  for await (const state of scan(training, await training.init(newMlp()), batches)) {
    records.push({ state, bits: await bitsOf(gpu, state) });
  }
  return records;
}

const records = await run(["gradDelta"]);
/** After a step, counted from 1. */
function after(step: number): Taken {
  return records[step - 1];
}

Deno.test("next leaves a frozen weight as it is, to the bit, and moves the others", () => {
  for (const step of [3, 4, 5]) {
    assertEquals(after(step).bits["bottom.weight"], after(2).bits["bottom.weight"]);
    assertNotEquals(after(step).bits["top.weight"], after(step - 1).bits["top.weight"]);
  }
});

Deno.test("next drops the moments of what freezes", () => {
  const own = (step: number): string[] =>
    [...after(step).state.leaves.keys()].filter((path) => path.includes("bottom"));
  assertEquals(own(1), ["optimizer.m.bottom.weight", "optimizer.v.bottom.weight", "previous.bottom.weight"]);
  for (const step of [2, 3, 4]) assertEquals(own(step), []);
  assertEquals(own(5), own(1));
});

Deno.test("next says in events what froze and thawed, and what a step costs then", () => {
  const events = records.flatMap(({ state }) => state.event ?? []);
  assertEquals(events.map(({ step, frozen, thawed }) => [step, frozen, thawed]), [
    [2, ["bottom"], []],
    [5, [], ["bottom"]],
  ]);
  // What thawed has a warm-up, and so an update of its own; the products are those of before.
  assertEquals(events[1].after.matmulFlops, events[0].before.matmulFlops);
  assertEquals(after(3).state.cost, events[0].after);
  // `[4, 4] x [4, 8]` by the weight; nothing below the bottom needs a gradient.
  assertEquals(events[0].before.matmulFlops - events[0].after.matmulFlops, 2 * 4 * 4 * 8 + 2 * 4 * 4 * 8);
});

Deno.test("next starts the moments of what thaws at zero", async () => {
  const zeros = new Array(32).fill(0);
  for (const slot of ["m", "v"]) assertEquals(after(5).bits[`optimizer.${slot}.bottom.weight`], zeros);
  // The step after a thaw moves the weight as a state with zero moments does.
  const { state } = after(5);
  const shapes: Record<string, readonly number[]> = { bottom: [4, 8], top: [8, 4] };
  const values = (path: string): Float32Array =>
    new Float32Array(new Uint32Array(after(5).bits[path]).buffer);
  const optimizer = adamW({ learningRate: 0.05 });
  const training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, { optimizer, steps: STEPS, lookEvery: 1 });
  const leaves = [...state.leaves].filter(([path]) => !path.startsWith("previous.") && path !== "ring").map((
    [path, { shape }],
  ) =>
    [path, {
      shape,
      dtype: "f32" as const,
      data: path.endsWith("bottom.weight") ? new Float32Array(32) : values(path),
    }] as const
  );
  const resumed = await training.resume({
    settings: earlierSettings(`${optimizer.name}, no policy, ${STEPS} steps, a look every 1`),
    step: 5,
    policy: null,
    frozen: [],
    since: { bottom: 5 },
    params: new Map(
      Object.entries(shapes).map(([name, shape]) => [`${name}.weight`, {
        shape,
        dtype: "f32" as const,
        data: values(`${name}.weight`),
      }]),
    ),
    leaves: new Map([...leaves, ["ring", { shape: [1, 1], dtype: "f32", data: new Float32Array(1) }]]),
  });
  const next = await valuesOf(gpu, (await training.next(resumed, batches[5])).params);
  assertEquals(bits(next.get("bottom.weight")!), after(6).bits["bottom.weight"]);
});

Deno.test("gradDelta is absent in the first step, while frozen, and in the first step after the thaw", () => {
  const absent = (path: Path): number[] =>
    records.flatMap(({ state: { look } }) =>
      look!.steps.filter((_, i) => Number.isNaN(look!.readings.gradDelta![path][i]))
    );
  assertEquals(absent("bottom"), [1, 3, 4, 5, 6]);
  assertEquals(absent("top"), [1]);
});

Deno.test("gradNorm is absent only while frozen", async () => {
  const norms = await run(["gradNorm"]);
  const absent = norms.filter(({ state }) => Number.isNaN(state.look!.readings.gradNorm!.bottom[0]));
  assertEquals(absent.map(({ state }) => state.step), [3, 4, 5]);
});

Deno.test("training goes on after a thaw", () => {
  assertEquals(records.length, STEPS);
  for (const step of [6, 7, 8]) {
    assertNotEquals(after(step).bits["bottom.weight"], after(step - 1).bits["bottom.weight"]);
    assertEquals(Number.isFinite(after(step).state.look!.loss[0]), true);
  }
});
