/** Values that are not numbers reach no file. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError, read, type Tensor, tensor } from "@firn/train";
import { memoryFileSystem, toBf16, toF16 } from "@firn/train/data";
import { loadModel, newModel, saveAdapter, saveModel } from "@firn/train/hub";
import { checkStorable } from "../../core/huggingface/check_storable.ts";
import { flatten, unflatten } from "../../core/tree.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { llamaSource } from "../train/tiny.ts";

const SOURCE = llamaSource({ layers: 1, tied: true });

Deno.test("checkStorable refuses exactly the values that rounding makes infinite, and those that are", () => {
  const bits = new Float32Array(new Uint32Array([0x7f7f7fff, 0x7f7f8000]).buffer);
  const rows = [["float16", 65519.996, 65520, toF16], ["bfloat16", bits[0], bits[1], toBf16]] as const;
  for (const [dtype, fits, overflows, round] of rows) {
    const infinity = round(new Float32Array([Infinity]))[0];
    checkStorable(new Float32Array([fits, -fits]), { name: "w", folder: "out", dtype });
    assertEquals(round(new Float32Array([fits]))[0] < infinity, true);
    assertEquals(round(new Float32Array([overflows]))[0], infinity);
    const values = new Float32Array([0, -overflows]);
    assertThrows(() => checkStorable(values, { name: "w", folder: "out", dtype }), InputError, "value 1 is");
  }
  for (const value of [NaN, Infinity, -Infinity]) {
    const check = () =>
      checkStorable(new Float32Array([value]), { name: "w", folder: "out", dtype: "float32" });
    assertThrows(check, InputError, `must be finite: value 0 is ${value}`);
  }
});

Deno.test("saveModel and saveAdapter write nothing when a value cannot be stored", async () => {
  await using gpu = await openTestGpu();
  const model = await newModel(gpu, { source: SOURCE, seed: 1 });
  const leaves = flatten(model.params), [name, { shape }] = [...leaves][0];
  const withValue = (value: number) => {
    const values = new Float32Array(shape.reduce((a, b) => a * b));
    values[3] = value;
    return { ...model, params: unflatten(new Map([...leaves, [name, tensor(values, shape)]])) as object };
  };
  const fileSystem = memoryFileSystem({ "out/config.json": "old" });
  for (const [value, seen] of [[NaN, "must be finite"], [1e6, "float16 must hold"]] as const) {
    const save = () => saveModel(gpu, withValue(value), { folder: "out", dtype: "float16", fileSystem });
    await assertRejects(save, InputError, seen);
  }
  const pairs = new Map([["layers.0.lora_A.weight", tensor([1, NaN], [1, 2])]]);
  const adapted = { ...model, params: unflatten(new Map([...leaves, ...pairs])) as object };
  await assertRejects(
    () => saveAdapter(gpu, adapted, { folder: "out", fileSystem }),
    InputError,
    "must be finite",
  );
  assertEquals((await fileSystem.list("")).map(({ name }) => name), ["out"]);
  assertEquals(new TextDecoder().decode(await fileSystem.read("out/config.json")), "old");
});

Deno.test("saveModel and loadModel refuse types that they do not know, and read what is no tensor", async () => {
  await using gpu = await openTestGpu();
  const model = await newModel(gpu, { source: SOURCE, seed: 1 });
  const fileSystem = memoryFileSystem(), dtype = "int8" as "float16", storage = "int4" as "file";
  await assertRejects(
    () => saveModel(gpu, model, { folder: "model", dtype, fileSystem }),
    InputError,
    'Cannot save "model" as "dtype" must be one of float32, bfloat16, float16: got "int8"',
  );
  assertEquals(await fileSystem.stat("model"), null);
  await assertRejects(
    () => loadModel(gpu, "examples/models/sotu", { storage }),
    InputError,
    '"storage" must be one of f32, file, int8, nf4: got "int4"',
  );
  for (const wrong of [undefined, null, 1, [1]]) {
    await assertRejects(() => read(gpu, wrong as unknown as Tensor), InputError, 'Cannot apply "read"');
  }
});
