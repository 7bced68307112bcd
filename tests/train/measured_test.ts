/** Signals of the components that a policy wants measured, and of no others. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  type Component,
  defineTraining,
  flatten,
  type FreezePolicy,
  InputError,
  leaf,
  nextTokenLoss,
  type Path,
  type Signal,
  snapshot,
  type TensorTree,
  type TokenBatch,
  type Training,
  type TrainingOptions,
  type TrainingState,
  unflatten,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import type { LlamaParams } from "@firn/train/models";
import { newModel } from "@firn/train/hub";
import { anyOf, gradES, only } from "@firn/train/policies";
import { plan } from "../../core/plan/plan.ts";
import { traceStep } from "../../core/train/step/trace.ts";
import {
  advance,
  ALL_SIGNALS,
  bitsOf,
  llamaSource,
  type Mlp,
  mlpLoss,
  newMlp,
  type Pairs,
  pairs,
  scheduled,
  tokenBatch,
} from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { builtIn } from "../../core/train/freeze/built_in_signals.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** No linear map has the shape of the embedding and the head: these are updated in launches of their own. */
const VOCABULARY = 96;
const model = await newModel<LlamaParams>(gpu, {
  source: { ...llamaSource({ layers: 2, tied: false }), vocab_size: VOCABULARY },
  seed: 1,
});
const PATHS: readonly Path[] = [...flatten(model.params).keys()].map((path) => path.replace(/\.weight$/, ""));
const clipped = chain(clipByGlobalNorm(0.5), adamW({ learningRate: 0.01 }));
const STEPS = 6, LOOK = 2;

/** The states of a run of the tiny Llama, the first before any step. */
async function trainLlama(policy: FreezePolicy): Promise<{
  readonly states: readonly TrainingState<LlamaParams>[];
  readonly bits: Readonly<Record<Path, readonly number[]>>;
  readonly bytes: number;
}> {
  const before = gpu.counts.bytes;
  using training = defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: clipped,
    policy,
    steps: STEPS,
    lookEvery: LOOK,
  });
  const states = [await training.init(model.params)];
  let bytes = 0;
  while (!states.at(-1)!.done) {
    const last = states.at(-1)!;
    states.push(await training.next(last, tokenBatch([2, 8], last.step)));
    if (last.step === 0) bytes = gpu.counts.bytes - before;
  }
  return { states, bits: await bitsOf(gpu, states.at(-1)!), bytes };
}

/** Some of its linear maps, in both layers. */
const JUDGED = /[qo]_proj|layers\.1.*up_proj/;

/** Freezes a linear map for two looks, measures all signals, some for some components only. */
function watching(measured?: FreezePolicy["measured"]): FreezePolicy {
  const frozen = [{ from: 2, frozen: ["model.layers.1.self_attn.q_proj"] }, { from: 4, frozen: [] }];
  return { ...scheduled(frozen, ALL_SIGNALS), measured };
}

Deno.test("next reads of the measured components what it reads when it measures all, and NaN of the others", async () => {
  const all = await trainLlama(watching());
  const some = await trainLlama(
    watching((signal, components) =>
      components.map(({ path }) => path).filter((path) => signal === "gradNorm" || JUDGED.test(path))
    ),
  );
  let finite = 0;
  some.states.forEach(({ look }, i) => {
    if (look === null) return;
    for (const signal of ALL_SIGNALS) {
      assertEquals(Object.keys(look.readings[signal]!), PATHS);
      for (const path of PATHS) {
        const seen = look.readings[signal]![path];
        const measured = signal === "gradNorm" || JUDGED.test(path);
        assertEquals(seen, measured ? all.states[i].look!.readings[signal]![path] : [NaN, NaN], path);
        finite += seen.filter(Number.isFinite).length;
      }
    }
  });
  assert(finite > 0);
});

Deno.test("next changes no bit of weights and moments by what it measures", async () => {
  const weightsOf = (bits: Readonly<Record<Path, readonly number[]>>) =>
    Object.fromEntries(
      Object.entries(bits).filter(([path]) => path !== "ring" && !path.startsWith("previous.")),
    );
  const all = weightsOf((await trainLlama(watching())).bits);
  for (const pattern of [JUDGED, /embed_tokens|norm/, /^$/]) {
    const { bits } = await trainLlama(
      watching((_, components) => components.map(({ path }) => path).filter((path) => pattern.test(path))),
    );
    assertEquals(weightsOf(bits), all);
  }
});

Deno.test("next keeps previous gradients of the measured components alone, and a column for each reading", async () => {
  const policy = anyOf(
    only("*.q_proj", scheduled([], ["gradDelta", "weightDelta"])),
    only("*.k_proj", scheduled([], ["weightDelta"])),
  );
  const { states: [first, ...others] } = await trainLlama(policy);
  const previous = (state: TrainingState<LlamaParams>) =>
    [...state.leaves.keys()].filter((path) => path.startsWith("previous."));
  assertEquals([previous(first), first.leaves.has("ring")], [[], false]);
  for (const state of others) {
    assertEquals(previous(state), [0, 1].map((n) => `previous.model.layers.${n}.self_attn.q_proj.weight`));
    // The loss, what clips, two signals of two components, and one of two others.
    assertEquals(state.leaves.get("ring")!.shape, [LOOK, 2 + 2 * 2 + 2]);
  }
});

for (const [metric, tau] of [["gradNorm", 1], ["gradDelta", 1], ["weightDelta", 3]] as const) {
  Deno.test(`gradES takes the launches that it takes when all is measured, and less memory: ${metric}`, async () => {
    const policy = gradES({ tau, metric, alpha: 0.3, stop: false });
    const some = await trainLlama(policy), all = await trainLlama({ ...policy, measured: undefined });
    assertEquals(some.states.map(({ cost }) => cost?.launches), all.states.map(({ cost }) => cost?.launches));
    assertEquals(some.states.map(({ frozen }) => frozen), all.states.map(({ frozen }) => frozen));
    assert(some.states.at(-1)!.frozen.length > 0);
    // Bytes of a gradient of embedding, head and norms: they are not kept for the next step.
    const unmeasured = 4 * 32 * (2 * VOCABULARY + 5);
    const saved = all.bytes - some.bytes;
    assert(saved >= (metric === "gradDelta" ? unmeasured : 1), `${saved} bytes`);
  });
}

Deno.test("what nothing is measured of is updated by the kernels of a step that measures nothing", () => {
  const leaves = new Map([...flatten(model.params)].map(([path, t]) => [path, leaf(path, t)]));
  const inputs = new Map(
    [...flatten(tokenBatch([2, 8]))].map(([path, t]) => [path, leaf(`batch.${path}`, t)]),
  );
  const loss = nextTokenLoss(model)(
    unflatten(leaves) as TensorTree as LlamaParams,
    unflatten(inputs) as TensorTree as TokenBatch,
  );
  const ring = [LOOK, 99] as const;
  /** Shaders that touch Adam's moments of some parameters. */
  function updating(pattern: RegExp, signals: readonly Signal[]): readonly string[] {
    const isMeasured = (_: string, path: Path): boolean => /layers.*_proj/.test(path),
      defined = signals.map(builtIn);
    const graph = traceStep({ loss, active: leaves, optimizer: clipped, signals: defined, isMeasured, ring });
    const { launches, buffers } = plan(graph.roots, { target: gpu.target, ...graph });
    const touches = (b: number): boolean => {
      const { source } = buffers[b];
      return source?.kind === "leaf" && pattern.test((source.node.attrs as { readonly path: Path }).path);
    };
    return launches.filter(({ bindings }) => bindings.some(touches)).map(({ kernel }) => kernel.code);
  }
  for (const pattern of [/optimizer\.m\..*embed/, /optimizer\.m\..*norm/, /optimizer\.m\.lm_head/]) {
    const plain = updating(pattern, []);
    assert(plain.length > 0);
    assertEquals(updating(pattern, ["gradNorm", "gradDelta", "weightDelta"]), plain);
  }
  const judged = /optimizer\.m\..*_proj/;
  assert(updating(judged, ["weightDelta"]).join() !== updating(judged, []).join());
});

function define(policy: FreezePolicy, options: Partial<TrainingOptions<Pairs>> = {}): Training<Mlp, Pairs> {
  const fixed = { optimizer: clipped, steps: STEPS, lookEvery: LOOK, policy };
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, { ...fixed, ...options });
}

/** Wants readings of `top` alone. */
function topOnly(more: Partial<FreezePolicy> = {}): FreezePolicy {
  return { ...scheduled([], ["gradNorm", "gradDelta"]), measured: () => ["top"], ...more };
}

Deno.test("next asks a policy what to measure once, of all components, also in a run that was resumed", async () => {
  const asked: [Signal, Path[]][] = [];
  const policy = topOnly({
    measured(signal: Signal, components: readonly Component[]) {
      asked.push([signal, components.map(({ path }) => path)]);
      return ["top"];
    },
  });
  const expected: typeof asked = [["gradNorm", ["bottom", "top"]], ["gradDelta", ["bottom", "top"]]];
  const first = define(policy), path = await Deno.makeTempFile();
  const state = await advance(first, await first.init(newMlp()), { to: 3, batches: pairs(STEPS) });
  await advance(first, await first.init(newMlp()), { to: 3, batches: pairs(STEPS) });
  assertEquals(asked.splice(0), expected);
  await saveCheckpoint(gpu, state, { path });
  const second = define(policy);
  await advance(second, await second.resume(await loadCheckpoint(path)), {
    to: STEPS,
    batches: pairs(STEPS),
  });
  assertEquals(asked, expected);
  await Deno.remove(path);
});

Deno.test("next measures nothing where a policy wants nothing measured", async () => {
  const training = define(topOnly({ measured: () => [] }));
  const state = await advance(training, await training.init(newMlp()), { to: LOOK, batches: pairs(STEPS) });
  assertEquals(state.look!.readings, {
    gradNorm: { bottom: [NaN, NaN], top: [NaN, NaN] },
    gradDelta: { bottom: [NaN, NaN], top: [NaN, NaN] },
  });
  assertEquals(state.leaves.get("ring")!.shape, [LOOK, 2]);
});

Deno.test("next spends nothing on a probe of what is not measured", async () => {
  const probing = scheduled([{ from: 1, frozen: ["bottom"] }]);
  const policy = topOnly({ ...probing, signals: ["gradNorm"], probed: () => ["bottom"] });
  // With f16 every gradient of a step is searched for overflows.
  for (const precision of ["f32", "f16"] as const) {
    const training = define(policy, { lookEvery: 1, precision });
    const state = await advance(training, await training.init(newMlp()), { to: 3, batches: pairs(STEPS) });
    assertEquals(state.probed, ["bottom"]);
    assertEquals(state.look!.readings.gradNorm!.bottom, [NaN]);
    assertEquals(state.cost, training.costOf(["bottom"]));
  }
});

Deno.test("a run begins from a copy and from a checkpoint of its first state too", async () => {
  const training = define(topOnly()), start = await training.init(newMlp()), path = await Deno.makeTempFile();
  await saveCheckpoint(gpu, start, { path });
  const copy = snapshot(gpu, start), saved = await loadCheckpoint(path);
  const expected = await bitsOf(gpu, await advance(training, start, { to: STEPS, batches: pairs(STEPS) }));
  const other = define(topOnly());
  for (const state of [copy, await training.resume(saved)]) {
    assertEquals(
      await bitsOf(gpu, await advance(training, state, { to: STEPS, batches: pairs(STEPS) })),
      expected,
    );
  }
  assertEquals(
    await bitsOf(gpu, await advance(other, await other.resume(saved), { to: STEPS, batches: pairs(STEPS) })),
    expected,
  );
  await Deno.remove(path);
});

Deno.test("a run that measured more than its policy wants is refused at its next step, with the way out", async () => {
  const path = await Deno.makeTempFile(), all = define(topOnly({ measured: undefined }));
  await saveCheckpoint(gpu, await advance(all, await all.init(newMlp()), { to: 1, batches: pairs(STEPS) }), {
    path,
  });
  const training = define(topOnly()), state = await training.resume(await loadCheckpoint(path));
  await assertRejects(
    () => training.next(state, pairs(1)[0]),
    InputError,
    'Cannot resume "ring" as the saved state must have the shape that this training needs: it has [2, 6], not [2, 4]; ' +
      "resume with the policy and the version of Firn of the saved run",
  );
  await Deno.remove(path);
});
