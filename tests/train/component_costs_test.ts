/** What `components` says of costs, against the products that the planner launches. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  adamW,
  add,
  type Component,
  defineTraining,
  flatten,
  matmul,
  mean,
  type Model,
  multiply,
  nextTokenLoss,
  openGpu,
  type Path,
  sizeOf,
  type Tensor,
  tensor,
  type TensorTree,
  type TokenBatch,
  type Training,
  unflatten,
} from "@firn/train";
import type { LlamaParams } from "@firn/train/models";
import { newModel } from "@firn/train/hub";
import { apply, type Op } from "../../core/tensor.ts";
import { llamaSource, type Mlp, mlpLoss, newMlp, type Pairs, pairs, randomFrom, tokenBatch } from "./tiny.ts";

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** Floating-point operations of a step by the contract of `ComponentCost`. */
function reckoned(components: readonly Component[], frozen: readonly Path[]): number {
  const lowest = Math.min(
    ...components.filter(({ path }) => !frozen.includes(path)).map(({ cost }) => cost!.depth),
  );
  return components.reduce((sum, { path, cost }) => {
    const { forward, dX, dW, depth } = cost!;
    return sum + forward + (frozen.includes(path) ? 0 : dW) + (lowest < depth ? dX : 0);
  }, 0);
}

type Subject = Pick<Training<TensorTree, TensorTree>, "components" | "costOf">;

async function llama(tied: boolean): Promise<Subject> {
  const model = await newModel<LlamaParams>(gpu, { source: llamaSource({ layers: 3, tied }), seed: 1 });
  return await stepped(model);
}

/** The same with frozen weights but for LoRA pairs of rank 2 on queries, values and what goes up. */
async function adapted(): Promise<Subject> {
  const model = await newModel<LlamaParams>(gpu, {
    source: llamaSource({ layers: 3, tied: false }),
    seed: 1,
  });
  const leaves = flatten(model.params);
  for (const [path, { shape: [out, into] }] of [...leaves]) {
    const match = /^(.*\.(q_proj|v_proj|up_proj))\.weight$/.exec(path);
    if (match === null) continue;
    for (const [half, shape] of [["A", [2, into]], ["B", [out, 2]]] as const) {
      leaves.set(
        `${match[1]}.lora_${half}.weight`,
        tensor(new Float32Array(sizeOf(shape)).fill(0.01), shape),
      );
    }
  }
  const params = unflatten(leaves) as TensorTree as LlamaParams;
  return await stepped({ ...model, params, trainable: (path) => path.includes(".lora_") });
}

async function stepped(model: Model<LlamaParams>): Promise<Subject> {
  const training = defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.01 }),
    steps: 2,
  });
  await training.next(await training.init(model.params), tokenBatch([2, 8]));
  return training;
}

async function mlp(): Promise<Subject> {
  const training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.05 }),
    steps: 2,
  });
  await training.next(await training.init(newMlp()), pairs(1)[0]);
  return training;
}

/** Frozen sets by name. */
function frozenSets(components: readonly Component[]): Record<string, readonly Path[]> {
  const paths = components.map(({ path }) => path), random = randomFrom(5);
  const depths = components.map(({ cost }) => cost!.depth), top = Math.max(...depths);
  const below = (depth: number): Path[] => paths.filter((_, i) => depths[i] < depth);
  return {
    none: [],
    "the bottom third": below(top / 3),
    "the bottom half": below(top / 2),
    "all but the top": below(top),
    ...Object.fromEntries(
      Array.from({ length: 8 }, (_, i) => [
        `scattered ones, draw ${i}`,
        paths.filter((_, at) => at !== i && random() < 0.5),
      ]),
    ),
  };
}

// Norms have no products and count their elements in the model: 0.3 to 0.5 % of what the tiny models multiply. Where
// the lowest active component is a query, key or value, the model counts the gradients of the two others with it: attention
// is 3 % of the forward pass of these shapes, so another 2 %.
const TOLERANCE = 0.025;

const SUBJECTS = {
  "an MLP": { make: mlp, tolerance: 0 },
  "a Llama": { make: () => llama(false), tolerance: TOLERANCE },
  "a Llama with tied head": { make: () => llama(true), tolerance: TOLERANCE },
  "a Llama with LoRA pairs": { make: adapted, tolerance: TOLERANCE },
};

for (const [name, { make, tolerance }] of Object.entries(SUBJECTS)) {
  Deno.test(`components of ${name} cost what the planner launches, whatever is frozen`, async () => {
    const training = await make(), components = training.components();
    for (const [which, frozen] of Object.entries(frozenSets(components))) {
      const { matmulFlops } = training.costOf(frozen);
      assertAlmostEquals(
        reckoned(components, frozen) / matmulFlops,
        1,
        tolerance,
        `with ${which} frozen: ${frozen.join(", ")}`,
      );
    }
  });
}

Deno.test("components of a Llama stand as deep as the chain of gradients is long", async () => {
  const components = (await llama(false)).components();
  const depths = new Map(components.map(({ path, cost }) => [path, cost!.depth]));
  const layer = (i: number): (number | undefined)[] =>
    ["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
      .concat("post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
      .map((name) => depths.get(`model.layers.${i}.${name}`));
  assertEquals(depths.get("model.embed_tokens"), 0);
  assertEquals(layer(0), [1, 2, 2, 2, 3, 4, 5, 5, 6]);
  assertEquals(layer(2), layer(0).map((depth) => depth! + 12));
  assertEquals([depths.get("model.norm"), depths.get("lm_head")], [19, 20]);
});

Deno.test("components of a Llama cost a product each way; the core of attention is with the map above it", async () => {
  const components = (await llama(false)).components();
  const cost = (name: string) => components.find(({ path }) => path === `model.layers.1.${name}`)!.cost!;
  const product = 2 * 16 * 32 * 64;
  for (const name of ["mlp.up_proj", "mlp.gate_proj", "mlp.down_proj"]) {
    const { forward, dX, dW } = cost(name);
    assertEquals([forward, dX, dW], [product, product, product]);
  }
  // Visible pairs of positions, times the size of a head: 2 products forward; scores again, dP, dQ; scores again, dP, dK, dV.
  const pairs = 2 * 4 * (8 * 9 / 2) * 8, output = 2 * 16 * 32 * 32;
  const { forward, dX, dW } = cost("self_attn.o_proj");
  assertEquals([forward, dX, dW], [output + 2 * 2 * pairs, output + 7 * 2 * pairs, output]);
  assertEquals(cost("input_layernorm"), { forward: 512, dX: 512, dW: 512, depth: 7 });
  const table = components.find(({ path }) => path === "model.embed_tokens")!.cost!;
  assertEquals(table, { forward: 0, dX: 0, dW: 512, depth: 0 });
});

Deno.test("components cost nothing that the loss does not read", async () => {
  const training = defineTraining(
    gpu,
    ({ top, bottom }: Mlp & { spare: Mlp["top"] }, batch: Pairs) => mlpLoss({ top, bottom }, batch),
    { optimizer: adamW({ learningRate: 0.05 }), steps: 2 },
  );
  await training.next(await training.init({ ...newMlp(), spare: newMlp().top }), pairs(1)[0]);
  const spare = training.components().find(({ path }) => path === "spare");
  assert(spare !== undefined);
  assertEquals(spare.cost, { forward: 0, dX: 0, dW: 0, depth: 0 });
});

Deno.test("maps of an op of one's own cost what its attributes make them, be these of any kind", async () => {
  const often: Op<ReadonlyMap<"times", number>> = {
    name: "often",
    infer: ([x, w]) => [{ shape: [x.shape[0], w.shape[1]], dtype: "f32" }],
    definition: ([x, w], attrs) => [
      Array.from({ length: attrs.get("times")! }, (_, i) => matmul(multiply(x, i + 2), w)).reduce((a, b) =>
        add(a, b)
      ),
    ],
  };
  const loss = ({ top, bottom }: Mlp, { x }: Pairs): Tensor => {
    const [one, three] = [1, 3].map((times) =>
      apply(often, [x, times === 1 ? bottom.weight : top.weight], new Map([["times", times]]))
    );
    return add(mean(multiply(one, one)), mean(multiply(three, three)));
  };
  using training = defineTraining(gpu, loss, { optimizer: adamW({ learningRate: 0.05 }), steps: 2 });
  const params = { bottom: newMlp(1).bottom, top: newMlp(2).bottom };
  await training.next(await training.init(params), pairs(1)[0]);
  const [bottom, top] = training.components().map(({ cost }) => cost!.forward);
  assertEquals([bottom, top], [2 * 4 * 4 * 8, 3 * 2 * 4 * 4 * 8]);
});
