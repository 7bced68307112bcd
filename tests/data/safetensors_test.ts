import { assert, assertEquals, assertRejects } from "@std/assert";
import { DataError, InputError, NotFoundError } from "@firn/train";
import safetensors from "safetensors";
import { toBf16, toF16 } from "../../core/data/floats.ts";
import { openSafetensors } from "../../core/data/safetensors.ts";
import { type TensorToStore, writeSafetensors } from "../../core/data/safetensors_write.ts";
import { inFolder, safetensorsBytes } from "./files.ts";

const F32: TensorToStore = {
  name: "a",
  dtype: "F32",
  shape: [2, 3],
  data: new Float32Array([1, -2, 3.5, 0, NaN, 6]),
};

const TENSORS: readonly (TensorToStore & { readonly values: readonly number[] })[] = [
  { name: "bool", dtype: "BOOL", shape: [3], data: new Uint8Array([0, 1, 1]), values: [0, 1, 1] },
  { name: "u8", dtype: "U8", shape: [1, 3, 1], data: new Uint8Array([0, 7, 255]), values: [0, 7, 255] },
  { name: "i8", dtype: "I8", shape: [2], data: new Int8Array([-128, 127]), values: [-128, 127] },
  { name: "u16", dtype: "U16", shape: [1], data: new Uint16Array([65535]), values: [65535] },
  { name: "i16", dtype: "I16", shape: [], data: new Int16Array([-32768]), values: [-32768] },
  { name: "f16", dtype: "F16", shape: [2], data: toF16(new Float32Array([0.5, -2])), values: [0.5, -2] },
  { name: "bf16", dtype: "BF16", shape: [2], data: toBf16(new Float32Array([0.5, -2])), values: [0.5, -2] },
  { name: "u32", dtype: "U32", shape: [1], data: new Uint32Array([2 ** 31]), values: [2 ** 31] },
  { name: "i32", dtype: "I32", shape: [1], data: new Int32Array([-(2 ** 24)]), values: [-(2 ** 24)] },
  { name: "f32", dtype: "F32", shape: [], data: new Float32Array([1e-40]), values: [Math.fround(1e-40)] },
  { name: "f64", dtype: "F64", shape: [1], data: new Float64Array([0.1]), values: [Math.fround(0.1)] },
  { name: "i64", dtype: "I64", shape: [1], data: new BigInt64Array([-5n]), values: [-5] },
  { name: "u64", dtype: "U64", shape: [1], data: new BigUint64Array([2n ** 63n]), values: [2 ** 63] },
  { name: "empty", dtype: "F32", shape: [4, 0, 2], data: new Float32Array(), values: [] },
  {
    name: 'ключ 键 🔑\n"',
    dtype: "F32",
    shape: [7],
    data: new Float32Array(7).fill(3),
    values: Array(7).fill(3),
  },
];

Deno.test("writeSafetensors writes every type so that openSafetensors reads the same", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/all.safetensors`;
    await writeSafetensors(path, TENSORS, { metadata: { format: "pt", "": "ü" } });
    await using file = await openSafetensors(path);
    assertEquals(file.metadata, { format: "pt", "": "ü" });
    assertEquals(file.names.toSorted(), TENSORS.map(({ name }) => name).toSorted());
    for (const { name, dtype, shape, data, values } of TENSORS) {
      assert(ArrayBuffer.isView(data));
      assertEquals([file.specs.get(name)?.dtype, file.specs.get(name)?.shape], [dtype, shape], name);
      assertEquals(
        await file.read(name),
        new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
        name,
      );
      assertEquals(await file.readF32(name), Float32Array.from(values), name);
    }
  });
});

Deno.test("writeSafetensors writes what the npm package safetensors reads", async () => {
  await inFolder(async (folder) => {
    await writeSafetensors(`${folder}/x.safetensors`, TENSORS);
    const other = new safetensors.SafeTensor(await Deno.readFile(`${folder}/x.safetensors`));
    for (const { name, dtype, shape, data } of TENSORS) {
      assert(ArrayBuffer.isView(data));
      const { dtype: type, shape: sizes } = other.metadata.get(name);
      assertEquals([type, sizes], [dtype, shape]);
      assertEquals(other.getTensor(name), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
  });
});

Deno.test("writeSafetensors repeats the bytes of a file that Hugging Face wrote", async () => {
  for (const name of ["llama/model", "llama/golden", "llama/adapter/adapter_model"]) {
    const source = `${import.meta.dirname}/../fixtures/${name}.safetensors`;
    await inFolder(async (folder) => {
      await using file = await openSafetensors(source);
      const tensors = file.names.map((name): TensorToStore => ({
        name,
        ...file.specs.get(name)!,
        data: () => file.read(name),
      })).toReversed();
      const { metadata } = file;
      await writeSafetensors(
        `${folder}/copy`,
        tensors,
        Object.keys(metadata).length === 0 ? {} : { metadata },
      );
      assertEquals(await Deno.readFile(`${folder}/copy`), await Deno.readFile(source));
    });
  }
});

Deno.test("openSafetensors serves reads that overlap in time", async () => {
  await inFolder(async (folder) => {
    const tensors = Array.from({ length: 20 }, (_, i) => ({
      name: `${i}`,
      dtype: "F32" as const,
      shape: [1000],
      data: new Float32Array(1000).fill(i),
    }));
    await writeSafetensors(`${folder}/x`, tensors);
    await using file = await openSafetensors(`${folder}/x`);
    const values = await Promise.all(tensors.map(({ name }) => file.readF32(name)));
    assertEquals(values, tensors.map(({ data }) => data));
  });
});

Deno.test("readF32 refuses whole numbers that f32 would round", async () => {
  await inFolder(async (folder) => {
    await writeSafetensors(`${folder}/x`, [
      { name: "i32", dtype: "I32", shape: [2], data: new Int32Array([0, 2 ** 24 + 1]) },
      { name: "u64", dtype: "U64", shape: [1], data: new BigUint64Array([2n ** 63n + 1n]) },
    ]);
    await using file = await openSafetensors(`${folder}/x`);
    await assertRejects(() => file.readF32("i32"), InputError, 'tensor "i32"');
    await assertRejects(() => file.readF32("u64"), InputError, "9223372036854775809");
  });
});

Deno.test("read refuses a name that the file lacks", async () => {
  await inFolder(async (folder) => {
    await writeSafetensors(`${folder}/x`, [F32]);
    await using file = await openSafetensors(`${folder}/x`);
    await assertRejects(() => file.read("b"), InputError, 'tensor "b"');
  });
});

Deno.test("read refuses a file that was cut while open", async () => {
  await inFolder(async (folder) => {
    await writeSafetensors(`${folder}/x`, [F32]);
    await using file = await openSafetensors(`${folder}/x`);
    await Deno.truncate(`${folder}/x`, 90);
    await assertRejects(() => file.read("a"), DataError, "it ends at 90");
  });
});

Deno.test("openSafetensors names a file that does not exist, and a folder", async () => {
  await inFolder(async (folder) => {
    await assertRejects(
      () => openSafetensors(folder),
      DataError,
      `"${folder}" as it must be a file`,
    );
  });
  await assertRejects(
    () => openSafetensors("no/such.safetensors"),
    NotFoundError,
    '"no/such.safetensors"',
  );
});

const A = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
const BROKEN: readonly (readonly [string, string, number, string])[] = [
  ["an empty header", "", 0, 'does not begin with "{"'],
  ["an array", "[]", 0, 'does not begin with "{"'],
  ["a leading space", ` {${A}}`, 4, 'does not begin with "{"'],
  ["broken JSON", `{${A}`, 4, "must be a JSON object"],
  ["a key twice", `{${A},${A}}`, 4, '"a" comes twice'],
  ["a key twice in other spelling", `{${A},${A.replace('"a"', '"\\u0061"')}}`, 4, '"a" comes twice'],
  [
    "a field twice",
    `{${A.replace('"shape"', '"dtype":"F32" , "dtype" :"F32","shape"')}}`,
    4,
    '"dtype" comes twice',
  ],
  ["metadata that is no text", `{"__metadata__":{"n":1},${A}}`, 4, '"__metadata__" must map'],
  ["metadata that is a list", `{"__metadata__":[],${A}}`, 4, '"__metadata__" must map'],
  ["an entry that is no object", '{"a":[]}', 0, 'tensor "a" must have'],
  ["an unknown type", `{${A.replace("F32", "F7")}}`, 4, 'got "F7"; save it as'],
  ["a type that objects inherit", `{${A.replace("F32", "toString")}}`, 4, 'got "toString"'],
  ["no shape", `{${A.replace("shape", "size")}}`, 4, "shape of whole numbers: got nothing"],
  ["a negative size", `{${A.replace("[1]", "[-1]")}}`, 4, "shape of whole numbers: got [-1]"],
  ["a broken size", `{${A.replace("[1]", "[1.5]")}}`, 4, "shape of whole numbers"],
  ["a huge size", `{${A.replace("[1]", "[4294967296,4294967296,4]")}}`, 4, "below 2^53"],
  ["offsets in reverse", `{${A.replace("[0,4]", "[4,0]")}}`, 4, "ascending byte offsets"],
  ["one offset", `{${A.replace("[0,4]", "[4]")}}`, 4, "ascending byte offsets"],
  ["too few bytes", `{${A.replace("[0,4]", "[0,3]")}}`, 3, "must take 4 bytes"],
  ["a gap in front", `{${A.replace("[0,4]", "[4,8]")}}`, 8, "without a gap"],
  ["an overlap", `{${A},${A.replace('"a"', '"b"').replace("[0,4]", "[2,6]")}}`, 6, 'tensor "b" must follow'],
  ["bytes behind the last", `{${A}}`, 5, "must fill the file: they take 4 bytes of 5"],
  ["missing bytes", `{${A}}`, 3, "the file is cut short"],
  ["deep nesting", `{"a":${"[".repeat(1e5)}${"]".repeat(1e5)}}`, 0, 'tensor "a" must have'],
];

for (const [what, header, dataBytes, seen] of BROKEN) {
  Deno.test(`openSafetensors refuses ${what}`, async () => {
    await inFolder(async (folder) => {
      await Deno.writeFile(`${folder}/x`, safetensorsBytes(header, dataBytes));
      const error = await assertRejects(() => openSafetensors(`${folder}/x`), DataError, seen);
      assert(error.message.startsWith(`Cannot read "${folder}/x" as `), error.message);
    });
  });
}

Deno.test("openSafetensors refuses headers of impossible length and of bytes that are not UTF-8", async () => {
  await inFolder(async (folder) => {
    const notUtf8 = safetensorsBytes(`{${A}}`, 4);
    notUtf8[10] = 0xff;
    const long = safetensorsBytes(`{${A}}`, 4);
    new DataView(long.buffer).setBigUint64(0, 2n ** 63n, true);
    const cases: readonly (readonly [Uint8Array, string])[] = [
      [notUtf8, "UTF-8"],
      [long, "9223372036854775808"],
      [safetensorsBytes(`{${A}}`, 4).subarray(0, 20), "can have 12 bytes at most"],
      [new Uint8Array(7), "it has 7"],
    ];
    for (const [bytes, seen] of cases) {
      await Deno.writeFile(`${folder}/x`, bytes);
      await assertRejects(() => openSafetensors(`${folder}/x`), DataError, seen);
    }
  });
});

Deno.test("writeSafetensors keeps the old file and leaves nothing behind when it fails", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/x`;
    await Deno.writeTextFile(path, "old");
    const wrong: readonly (readonly [string, readonly TensorToStore[]])[] = [
      ["two tensors have this one", [F32, F32]],
      ["takes 24 bytes: its data has 4", [{ ...F32, data: new Float32Array(1) }]],
      ["whole numbers", [{ ...F32, shape: [-2, -3] }]],
      ["metadata", [{ ...F32, name: "__metadata__" }]],
      ["surrogate", [{ ...F32, name: "\ud800" }]],
      ["device lost", [F32, {
        ...F32,
        name: "b",
        data: () => Promise.reject(new InputError("device lost")),
      }]],
    ];
    for (const [seen, tensors] of wrong) {
      await assertRejects(() => writeSafetensors(path, tensors), InputError, seen);
      assertEquals(await Deno.readTextFile(path), "old");
      assertEquals((await Array.fromAsync(Deno.readDir(folder))).length, 1);
    }
  });
});
