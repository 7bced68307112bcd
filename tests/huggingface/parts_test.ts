import { assert, assertEquals, assertRejects } from "@std/assert";
import { DataError, flatten, InputError, readAll } from "@firn/train";
import { fromBf16, memoryFileSystem, openSafetensors, toBf16, writeSafetensors } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";
import { indexOfNonFiniteBf16 } from "../../core/data/floats.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const V = 140_001, C = 64; // the embedding takes three parts, or two as bf16, the last with an odd number of rows
const CONFIG = {
  model_type: "llama",
  hidden_size: C,
  intermediate_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: V,
  tie_word_embeddings: true,
};

const SHAPES: Readonly<Record<string, readonly number[]>> = {
  "model.embed_tokens.weight": [V, C],
  "model.norm.weight": [C],
  "model.layers.0.input_layernorm.weight": [C],
  "model.layers.0.post_attention_layernorm.weight": [C],
  "model.layers.0.self_attn.q_proj.weight": [C, C],
  "model.layers.0.self_attn.k_proj.weight": [C / 2, C],
  "model.layers.0.self_attn.v_proj.weight": [C / 2, C],
  "model.layers.0.self_attn.o_proj.weight": [C, C],
  "model.layers.0.mlp.gate_proj.weight": [8, C],
  "model.layers.0.mlp.up_proj.weight": [8, C],
  "model.layers.0.mlp.down_proj.weight": [C, 8],
};

/** A folder whose values tell where they stand. */
async function folderOf(spoil: (name: string, values: Float32Array) => void = () => {}) {
  const fileSystem = memoryFileSystem({ "m/config.json": JSON.stringify(CONFIG) });
  const tensors = Object.entries(SHAPES).map(([name, shape]) => {
    const values = Float32Array.from({ length: shape.reduce((n, d) => n * d, 1) }, (_, i) => i % 8191 - 4000);
    spoil(name, values);
    return { name, shape, dtype: "BF16", data: toBf16(values) } as const;
  });
  await writeSafetensors("m/model.safetensors", tensors, { fileSystem });
  return { fileSystem, tensors };
}

Deno.test("loadModel reads a tensor in parts, as f32 and as bf16, and says how far it is", async () => {
  await using gpu = await openTestGpu();
  const { fileSystem, tensors } = await folderOf();
  let largest = 0;
  const open: typeof fileSystem.open = async (path) => {
    const file = await fileSystem.open(path);
    return {
      ...file,
      read(begin, end) {
        largest = Math.max(largest, end - begin);
        return file.read(begin, end);
      },
    };
  };
  for (const storage of ["f32", "file"] as const) {
    const seen: number[] = [];
    const model = await loadModel(gpu, "m", {
      storage,
      fileSystem: { ...fileSystem, open },
      onProgress: ({ done, total }) => seen.push(done / total),
    });
    const leaves = flatten(model.params), values = await readAll(gpu, [...leaves.values()]);
    [...leaves.keys()].forEach((path, i) => {
      const { data } = tensors.find(({ name }) => name === path)!;
      assertEquals(values[i].length, data.length);
      assert(fromBf16(data).every((value, j) => value === values[i][j]), path);
    });
    assertEquals(seen.at(-1), 1);
    assert(seen.length > tensors.length && seen.every((x, i) => i === 0 || x > seen[i - 1]));
    assert(largest <= 2 ** 24, `${largest} bytes at a time`);
  }
});

Deno.test("loadModel names the place of a value that is not finite in a later part", async () => {
  await using gpu = await openTestGpu();
  const at = V * C - 3;
  const { fileSystem } = await folderOf((name, values) => {
    if (name === "model.embed_tokens.weight") values[at] = -Infinity;
  });
  for (const storage of ["f32", "file"] as const) {
    const load = () => loadModel(gpu, "m", { storage, fileSystem });
    await assertRejects(load, DataError, `value ${at} is -Infinity`);
  }
});

Deno.test("rows of a tensor are read alone, and rows that it does not have are refused", async () => {
  const fileSystem = memoryFileSystem();
  const data = Float32Array.from({ length: 12 }, (_, i) => i);
  await writeSafetensors("x", [{ name: "a", dtype: "F32", shape: [4, 3], data }], { fileSystem });
  await using file = await openSafetensors("x", { fileSystem });
  assertEquals(await file.readF32("a", { from: 1, to: 3 }), data.subarray(3, 9));
  assertEquals((await file.read("a", { from: 4, to: 4 })).length, 0);
  for (const rows of [{ from: 2, to: 1 }, { from: 0, to: 5 }, { from: -1, to: 2 }, { from: 0.5, to: 2 }]) {
    await assertRejects(() => file.read("a", rows), InputError, "rows");
  }
});

Deno.test("fromBf16 widens an odd number of codes, from any place of a buffer", () => {
  const codes = toBf16(Float32Array.from({ length: 9 }, (_, i) => i - 4));
  for (const [from, to] of [[0, 9], [1, 9], [1, 8], [2, 5], [3, 3]]) {
    const one = Float32Array.from(codes.subarray(from, to), (code) => fromBf16(Uint16Array.of(code))[0]);
    assertEquals(fromBf16(codes.subarray(from, to)), one);
    const into = new Float32Array(12).fill(7);
    assertEquals(fromBf16(codes.subarray(from, to), into.subarray(1)), one);
    assertEquals([into[0], ...into.subarray(1 + to - from)], Array(12 - to + from).fill(7));
    assertEquals(
      fromBf16(codes.subarray(from, to), new Float32Array(to - from - 1 < 0 ? 0 : to - from - 1)),
      one,
    );
  }
});

Deno.test("indexOfNonFiniteBf16 finds the first code that is no finite number, at each place", () => {
  assertEquals(indexOfNonFiniteBf16(toBf16(new Float32Array([0, -1, 3.3e38]))), -1);
  for (const bad of [0x7f80, 0xff80, 0x7fc0, 0xffff]) {
    for (let at = 0; at < 8; at++) {
      const some = new Uint16Array(9).fill(0x7f7f).with(at, bad).with(8, bad);
      assertEquals(indexOfNonFiniteBf16(some), at);
      assertEquals(indexOfNonFiniteBf16(some.subarray(1)), at === 0 ? 7 : at - 1);
    }
  }
});
