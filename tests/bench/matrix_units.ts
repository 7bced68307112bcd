/**
 * What matrix units are worth to WebGPU: one product in f32 on ordinary lanes, and with f16 operands and f32 sums on matrix
 * units. This file needs no other.
 *
 * ```sh
 * deno run tests/bench/matrix_units.ts           # Deno: says how it refuses, or measures once it grants them
 * deno run -A tests/bench/matrix_units.ts --dawn # Google's Dawn, from npm:webgpu
 * ```
 *
 * A number may follow: M, N and K, a multiple of 128; 4096 when absent. A line a kernel: TFLOP/s, median of five turns with
 * the least and the greatest, and the largest error of some elements against float64.
 *
 * @module
 */

/** The words for a matrix of `u` rows and columns. Offsets and strides count elements of arrays. */
interface Words {
  readonly header: string;
  /** What operands are arrays of, and how many f16 that is: naga has matrices lie in memory as their own type. */
  readonly chunk: readonly [type: string, halves: number];
  type(role: "left" | "right" | "sums", u: number): string;
  load(
    role: "left" | "right",
    u: number,
    place: readonly [array: string, offset: number, stride: number],
  ): string;
  store(value: string, place: readonly [array: string, offset: string, stride: number]): string;
  readonly multiplyAdd: string;
}

const TINT: Words = {
  header: "enable f16; enable subgroups; enable chromium_experimental_subgroup_matrix;\n" +
    "diagnostic(off, chromium.subgroup_matrix_uniformity);\n",
  chunk: ["vec4<u32>", 8],
  type: (role, u) =>
    role === "sums" ? `subgroup_matrix_result<f32, ${u}, ${u}>` : `subgroup_matrix_${role}<f16, ${u}, ${u}>`,
  load: (role, u, [array, offset, stride]) =>
    `subgroupMatrixLoad<${TINT.type(role, u)}, row_major>(&${array}, ${offset}u, ${stride}u)`,
  store: (value, [array, offset, stride]) =>
    `subgroupMatrixStore<row_major>(&${array}, ${offset}, ${value}, ${stride}u);`,
  multiplyAdd: "subgroupMatrixMultiplyAccumulate",
};

const NAGA: Words = {
  header: "enable f16; enable wgpu_cooperative_matrix;\n",
  chunk: ["vec4<f16>", 4],
  type: (role, u) =>
    role === "sums" ? `coop_mat${u}x${u}<f32, C>` : `coop_mat${u}x${u}<f16, ${role === "left" ? "A" : "B"}>`,
  load: (role, u, [array, offset, stride]) =>
    `coopLoadT<${NAGA.type(role, u)}>(&${array}[${offset}u], ${stride}u)`,
  store: (value, [array, offset, stride]) =>
    `{ let v = ${value}; let at = ${offset}; let s = ${stride}u; coopStoreT(v, &${array}[at], s); }`,
  multiplyAdd: "coopMultiplyAdd",
};

const times = (count: number, text: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => text(i)).join("");

/**
 * C = A B, all row by row, `n` x `n`: four subgroups, each `4 u` rows by `2 u` columns of the tile of a workgroup. What a
 * subgroup reads is a panel, an element of an array of arrays, so that a place within it is a constant, which needs no check.
 */
function matrixKernel(n: number, { words, u, lanes }: {
  readonly words: Words;
  readonly u: number;
  readonly lanes: number;
}): { readonly code: string; readonly grid: readonly [number, number] } {
  const [wm, wn, bk] = [4 * u, 2 * u, 2 * u], threads = 4 * lanes, [chunk, per] = words.chunk;
  // Rows are padded by eight elements, so that neighbours begin in different banks.
  const sa = (bk + 8) / per, sb = (wn + 8) / per, across = bk / per, wide = wn / per;
  const code = `${words.header}@group(0) @binding(0) var<storage, read> a: array<${chunk}>;
@group(0) @binding(1) var<storage, read> b: array<${chunk}>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
var<workgroup> ta: array<array<${chunk}, ${wm * sa}>, 2>;
var<workgroup> tb: array<array<${chunk}, ${bk * sb}>, 2>;
@compute @workgroup_size(${threads}) fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lid: u32, @builtin(subgroup_id) sid: u32) {
let row = group.y * ${2 * wm}u; let column = group.x * ${2 * wn}u;
let wr = sid / 2u; let wc = sid % 2u;
${times(4, (i) => times(2, (j) => `var c${i}_${j}: ${words.type("sums", u)};\n`))}
for (var k = 0u; k < ${n}u; k += ${bk}u) {
for (var i = lid; i < ${2 * wm * across}u; i += ${threads}u) {
let r = i / ${across}u; let q = i % ${across}u;
ta[r / ${wm}u][r % ${wm}u * ${sa}u + q] = a[(row + r) * ${n / per}u + k / ${per}u + q];
}
for (var i = lid; i < ${2 * bk * wide}u; i += ${threads}u) {
let r = i / ${2 * wide}u; let q = i % ${2 * wide}u;
tb[q / ${wide}u][r * ${sb}u + q % ${wide}u] = b[(k + r) * ${n / per}u + column / ${per}u + q];
}
workgroupBarrier();
${
    times(2, (d) =>
      `{\n${
        times(2, (j) =>
          `let b${j} = ${words.load("right", u, ["tb[wc]", d * u * sb + j * u / per, sb])};\n`)
      }${
        times(4, (i) =>
          `{ let a0 = ${words.load("left", u, ["ta[wr]", i * u * sa + d * u / per, sa])};\n${
            times(2, (j) => `c${i}_${j} = ${words.multiplyAdd}(a0, b${j}, c${i}_${j});\n`)
          }}\n`)
      }}\n`)
  }workgroupBarrier();
}
${
    times(4, (i) =>
      times(2, (j) => {
        const at = `(row + wr * ${wm}u + ${i * u}u) * ${n / 4}u + (column + wc * ${wn}u + ${j * u}u) / 4u`;
        return `${words.store(`c${i}_${j}`, ["c", at, n / 4])}\n`;
      }))
  }}`;
  return { code, grid: [n / (2 * wn), n / (2 * wm)] };
}

/** The same in f32 on ordinary lanes: tiles of 64 x 64, of which a thread has 4 x 4. */
function plainKernel(n: number): { readonly code: string; readonly grid: readonly [number, number] } {
  const code = `@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
var<workgroup> ta: array<array<f32, 65>, 16>;
var<workgroup> tb: array<array<vec4<f32>, 16>, 16>;
@compute @workgroup_size(256) fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
let row = group.y * 64u; let column = group.x * 16u; let y = lid / 16u; let x = lid % 16u;
var sums: array<vec4<f32>, 4>;
for (var k = 0u; k < ${n}u; k += 16u) {
let v = a[(row + lid / 4u) * ${n / 4}u + k / 4u + lid % 4u];
for (var i = 0u; i < 4u; i++) { ta[lid % 4u * 4u + i][lid / 4u] = v[i]; }
tb[y][x] = b[(k + y) * ${n / 4}u + column + x];
workgroupBarrier();
for (var d = 0u; d < 16u; d++) {
let w = tb[d][x];
${times(4, (i) => `sums[${i}] = fma(vec4<f32>(ta[d][y * 4u + ${i}u]), w, sums[${i}]);\n`)}}
workgroupBarrier();
}
${times(4, (i) => `c[(row + y * 4u + ${i}u) * ${n / 4}u + column + x] = sums[${i}];\n`)}}`;
  return { code, grid: [n / 64, n / 64] };
}

interface Found {
  readonly device: GPUDevice;
  readonly name: string;
  /** The words for matrices; or why there are none. */
  readonly words: Words | string;
  readonly u: number;
  readonly lanes: number;
}

/** Live for ever: once collected, Dawn takes the process down. */
const kept: unknown[] = [];

async function open(dawn: boolean): Promise<Found> {
  // deno-lint-ignore no-explicit-any
  const gpu: any = dawn
    ? (await import("webgpu")).create([
      "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia",
      "disable-dawn-features=timestamp_quantization",
    ])
    : navigator.gpu;
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) throw new Error("there is no adapter");
  kept.push(gpu, adapter);
  const { info, limits } = adapter,
    feature = dawn ? "chromium-experimental-subgroup-matrix" : "wgpu-cooperative-matrix";
  const units = [...info.subgroupMatrixConfigs ?? []].filter((c) =>
    c.componentType === "f16" && c.resultComponentType === "f32" && c.M === c.N && c.N === c.K
  );
  const requiredLimits = {
    maxBufferSize: limits.maxBufferSize,
    maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
    maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
  };
  const lanes = info.subgroupMinSize, u = units[0]?.M ?? (lanes === 8 ? 8 : 16);
  const about = { name: dawn ? `${info.description} (dawn)` : info.description, lanes, u };
  try {
    const requiredFeatures = ["shader-f16", "subgroups", feature];
    return {
      ...about,
      device: await adapter.requestDevice({ requiredFeatures, requiredLimits }),
      words: dawn ? TINT : NAGA,
    };
  } catch (error) {
    return { ...about, device: await adapter.requestDevice({ requiredLimits }), words: `${error}` };
  }
}

/** Whole numbers of 1/64, which are f16. */
const element = (i: number, seed: number): number => ((i * 7919 + seed) % 127 - 63) / 64;

async function measure(
  { device }: Found,
  { code, grid: [x, y], n, values }: {
    readonly code: string;
    readonly grid: readonly [number, number];
    readonly n: number;
    readonly values: (seed: number) => Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer>;
  },
): Promise<string> {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const refused = await device.popErrorScope();
  if (refused !== null) return `refused: ${refused.message}`;
  const operands = [1, 2].map((seed) => {
    const data = values(seed), buffer = device.createBuffer({ size: data.byteLength, usage: 0x80 | 0x8 });
    // Dawn's addon divides by the size of an element, which it takes for 0 in a Float16Array.
    device.queue.writeBuffer(buffer, 0, data.buffer);
    return buffer;
  });
  const out = device.createBuffer({ size: 4 * n * n, usage: 0x80 | 0x4 });
  const staging = device.createBuffer({ size: 4 * n, usage: 0x1 | 0x8 });
  const entries = [...operands, out].map((buffer, binding) => ({ binding, resource: { buffer } }));
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  const row = n - 5;
  const run = async (count: number): Promise<Float32Array> => {
    const encoder = device.createCommandEncoder(), pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    for (let i = 0; i < count; i++) pass.dispatchWorkgroups(x, y);
    pass.end();
    encoder.copyBufferToBuffer(out, 4 * n * row, staging, 0, 4 * n);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(1);
    const seen = new Float32Array(staging.getMappedRange().slice(0));
    staging.unmap();
    return seen;
  };
  const seen = await run(1);
  let worst = 0;
  for (let column = 0; column < n; column += Math.ceil(n / 61)) {
    let sum = 0, size = 0;
    for (let k = 0; k < n; k++) {
      const term = element(row * n + k, 1) * element(k * n + column, 2);
      sum += term;
      size += Math.abs(term);
    }
    worst = Math.max(worst, Math.abs(seen[column] - sum) / size);
  }
  let count = 1, ms = 0;
  // Until a turn is long enough for the clocks to rise, and for waiting to be of no account.
  for (; ms < 500 && count < 2 ** 14; count *= 2) ms = await timed(() => run(count));
  const turns = [];
  for (let i = 0; i < 5; i++) turns.push(await timed(() => run(count)) / count);
  const rates = turns.map((turn) => 2 * n ** 3 / turn / 1e9).toSorted((a, b) => a - b);
  const [least, , middle, , most] = rates.map((rate) => rate.toFixed(rate < 10 ? 3 : 1));
  return `${middle} TFLOP/s (${least} – ${most}), error ${worst.toExponential(1)}`;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

async function main(): Promise<void> {
  const n = Number(Deno.args.find((arg) => /^\d+$/.test(arg)) ?? 4096);
  const found = await open(Deno.args.includes("--dawn")), { words, u, lanes } = found;
  console.log(`${found.name}, Deno ${Deno.version.deno}, ${n} x ${n} x ${n}`);
  const wide = (seed: number) => Float32Array.from({ length: n * n }, (_, i) => element(i, seed));
  console.log(
    `f32, lanes:        ${await measure(found, { ...plainKernel(n), n, values: wide })}`,
  );
  const text = typeof words === "string" ? `refused: ${words}` : await measure(found, {
    ...matrixKernel(n, { words, u, lanes }),
    n,
    values: (seed) => Float16Array.from(wide(seed)),
  });
  console.log(`f16, matrix units: ${text}`);
  found.device.destroy();
}

if (import.meta.main) {
  await main();
  Deno.exit();
}
