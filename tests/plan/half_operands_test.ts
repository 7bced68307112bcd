/**
 * A plan of f16 stores both operands of every product as f16, which matrix units need, or in the fewer bytes of a base.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { adamW, type DType, leaf, nextTokenLoss, type Tensor, unflatten } from "@firn/train";
import { describeModel, families, type LlamaParams, modelParams, type TokenBatch } from "@firn/train/models";
import { accumulateOp } from "../../core/ops/matmul.ts";
import { prepare } from "../../core/plan/plan.ts";
import { isProduct } from "../../core/plan/predicates.ts";
import { storedSpec } from "../../core/plan/storage.ts";
import { traceStep } from "../../core/train/step/trace.ts";

const BATCH = [2, 16];
/** Families of decoders whose products all are products of two matrices. */
const NAMES = ["llama", "qwen3", "phi3", "gemma2", "gemma3_text", "olmo2", "granite", "gpt2", "gpt_neox"];

async function sourceOf(name: string): Promise<Record<string, unknown>> {
  return JSON.parse(await Deno.readTextFile(new URL(`../fixtures/${name}/config.json`, import.meta.url)));
}

/** How the operands of each product of a step are stored: `f16 x bf16`, and how many there are of each. */
function operandsOf(
  source: Record<string, unknown>,
  { base = "f32", rank = 0 }: { readonly base?: DType; readonly rank?: number } = {},
): Record<string, number> {
  const model = describeModel(source, { families, file: "config.json" }), leaves = new Map<string, Tensor>();
  for (const [path, { shape }] of modelParams(model)) {
    const layer = path.match(/^(.*_proj)\.weight$/)?.[1];
    leaves.set(path, leaf(path, { shape, dtype: layer === undefined ? "f32" : base }));
    if (layer === undefined || rank === 0) continue;
    for (const [name, own] of [["lora_A", [rank, shape[1]]], ["lora_B", [shape[0], rank]]] as const) {
      leaves.set(`${layer}.${name}.weight`, leaf(`${layer}.${name}.weight`, { shape: own, dtype: "f32" }));
    }
  }
  const ids = (name: string): Tensor => leaf(`batch.${name}`, { shape: BATCH, dtype: "i32" });
  const batch: TokenBatch = { inputIds: ids("inputIds"), labels: ids("labels") };
  const params = unflatten(leaves) as object as LlamaParams;
  const active = rank === 0 ? leaves : new Map([...leaves].filter(([path]) => path.includes("lora")));
  const graph = traceStep({
    loss: nextTokenLoss({ ...model, params } as never)(params, batch),
    active,
    optimizer: adamW({ learningRate: 1e-3 }),
    signals: [],
    ring: [1, 2],
    precision: "f16",
  });
  const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 16 };
  const { fusion, isHalf } = prepare(graph.roots, { target, updates: graph.updates, precision: "f16" });
  const seen: Record<string, number> = {};
  for (const node of fusion.order) {
    const sides = node.op === accumulateOp ? node.inputs.slice(1, 3) : isProduct(node) ? node.inputs : [];
    const types = sides.filter(({ dtype }) => dtype !== "u32").map((x) => storedSpec(x, isHalf(x)).dtype);
    if (types.length > 0) seen[types.join(" x ")] = (seen[types.join(" x ")] ?? 0) + 1;
  }
  return seen;
}

for (const name of NAMES) {
  Deno.test(`all products of a step of ${name} read f16 alone`, async () => {
    const kinds = Object.keys(operandsOf(await sourceOf(name)));
    assert(kinds.length > 0);
    assertEquals(kinds.filter((kind) => !/^f16( x f16)+$/.test(kind)), []);
  });
}

for (const base of ["f32", "bf16", "f16", "int8", "nf4"] as const) {
  Deno.test(`all products of a step of LoRA beside a base of ${base} read f16, or the base as it is stored`, async () => {
    const kinds = operandsOf(await sourceOf("llama"), { base, rank: 4 });
    const stored = { f32: "f16", f16: "half" }[base as string] ?? base;
    assert(kinds["f16 x f16"] > 0 && kinds[`f16 x ${stored}`] > 0, JSON.stringify(kinds));
    const other = Object.keys(kinds).filter((kind) =>
      kind.split(" x ").some((type) => type !== "f16" && type !== stored)
    );
    assertEquals(other, []);
  });
}
