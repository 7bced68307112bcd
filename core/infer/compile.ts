/**
 * Functions of tensors that are traced, planned and recorded once for each shape of their arguments.
 *
 * @module
 */

import { checkRange, refuse } from "../arguments.ts";
import { unpackValues } from "../data/packed_values.ts";
import { InputError } from "../errors.ts";
import { bytesOf } from "../plan/storage.ts";
import { createBuffer, destroyBuffer, writeValues } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { lock } from "../runtime/lock.ts";
import { readBuffers } from "../runtime/readback.ts";
import { record, type Recording } from "../runtime/record.ts";
import { checkUnconsumed, isResident, storageOf } from "../runtime/residents.ts";
import { type HostData, hostValues, isHost, leaf } from "../sources.ts";
import { elementBytes, isPacked } from "../spec.ts";
import { apply, dequantizeOp, type Tensor } from "../tensor.ts";
import { flatten, type Leaves, type Mapped, mapTree, type Path, type TensorTree } from "../tree.ts";
import { planFor } from "./read.ts";

/** Options of {@link compile}. */
export interface CompileOptions {
  /** Most recordings that are kept, one for each shape of the arguments; 8 when absent. The one that was not used for longest goes. */
  readonly most?: number;
}

/** A function that {@link compile} made. */
export interface Compiled<A extends readonly TensorTree[], R extends TensorTree> {
  /**
   * Computes the function, and copies the values of its result to the host.
   *
   * @throws {InputError} When an argument is no tensor and no record of tensors, or one was freed; or after disposal
   * @throws {ConsumedError} When a training step has reused the buffer of a tensor
   */
  (...args: A): Promise<Mapped<R, HostData>>;
  /** How often it was traced, planned and recorded so far. */
  readonly recorded: number;
  /** Frees its recordings, after the calls that wait. */
  [Symbol.dispose](): void;
}

/**
 * Makes a function of tensors that is traced, planned and recorded at the first call. Later calls write their arguments and replay the recording. Arguments of other
 * shapes or types are recorded anew.
 *
 * Tensors on the device, such as the parameters of a model or of a training state, are read where they are: a function that
 * is given the parameters as an argument sees what training makes of them. Values of the host are uploaded in each call, but
 * for a tensor that the call before had, too. What the function itself refers to belongs to the recording. A call then costs what it computes, what it reads, and about 0.2 ms;
 * `read` and `evaluate` plan and record each time, 9 ms for a Llama of two layers (`tests/bench/compiled.ts`).
 *
 * @param gpu The device
 * @param fn A pure function: from tensors, or records of them, to a tensor or a record of them
 * @param options How many recordings are kept
 * @returns The function; it gives the values of each tensor, row-major, f32 where they are stored in fewer bytes
 * @throws {InputError} When `fn` is no function, or an option is out of range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { add, multiply, openGpu, type Tensor, tensor } from "@firn/train";
 * import { compile } from "@firn/train/infer";
 *
 * await using gpu = await openGpu();
 * using line = compile(gpu, ({ slope, start }: { slope: Tensor; start: Tensor }, x: Tensor) => add(multiply(slope, x), start));
 * const params = { slope: tensor([2]), start: tensor([1]) };
 * assertEquals([...await line(params, tensor([1, 2, 3]))], [3, 5, 7]);
 * assertEquals([...await line(params, tensor([4, 5, 6]))], [9, 11, 13]);
 * assertEquals(line.recorded, 1);
 * ```
 */
export function compile<A extends readonly TensorTree[], R extends TensorTree>(
  gpu: Gpu,
  fn: (...args: A) => R,
  options: CompileOptions = {},
): Compiled<A, R> {
  if (typeof fn !== "function") refuse("compile", "it takes a function of tensors", fn);
  const { most = 8 } = options, { exclusive } = lock(), keyOf = keys();
  checkRange("compile", { most }, { least: 1 });
  /** Recordings by key; the one that was used last is the last. */
  const known = new Map<string, Recorded<R>>();
  let recorded = 0, disposed = false;
  async function call(args: A): Promise<Mapped<R, HostData>> {
    const inputs = inputsOf(args), key = keyOf(inputs);
    let own = known.get(key);
    if (own === undefined) {
      own = await recordCall(gpu, { fn, args, inputs });
      recorded++;
    }
    known.delete(key);
    known.set(key, own);
    if (known.size > most) {
      const [[oldest, { destroy }]] = known;
      known.delete(oldest);
      destroy();
    }
    return await own.run(inputs);
  }
  const checkOpen = (): void => {
    if (disposed) throw new InputError("Cannot call a compiled function as it was disposed: compile it anew");
  };
  const compiled = async (...args: A): Promise<Mapped<R, HostData>> => {
    checkOpen();
    return await exclusive(() => call(args));
  };
  return Object.defineProperty(
    Object.assign(compiled, {
      recorded: 0,
      [Symbol.dispose](): void {
        disposed = true;
        exclusive(() => {
          for (const { destroy } of known.values()) destroy();
          known.clear();
        });
      },
    }),
    "recorded",
    { get: () => recorded },
  );
}

/** A call that was recorded. */
interface Recorded<R extends TensorTree> {
  /** Computes it for other arguments of the same key. */
  run(inputs: Leaves): Promise<Mapped<R, HostData>>;
  destroy(): void;
}

/** The tensors of the arguments by path: those of the first begin with `0`. */
function inputsOf(args: readonly unknown[]): Leaves {
  return new Map(args.flatMap((arg, i) => {
    if (typeof arg !== "object" || arg === null) {
      refuse("compile", `argument ${i} must be a tensor or a record of tensors`, arg);
    }
    return [...flatten(arg as TensorTree, `${i}`)];
  }));
}

/** Whether a tensor has a buffer that calls read or write; others are part of the graph. */
const isInput = (t: Tensor): boolean => isHost(t) || isResident(t);

/** Makes a function of what a recording depends on: shapes, types, and where on the device its inputs are. */
function keys(): (inputs: Leaves) => string {
  const ids = new WeakMap<object, number>();
  let next = 0;
  const idOf = (value: object): number => {
    if (!ids.has(value)) ids.set(value, next++);
    return ids.get(value)!;
  };
  return (inputs) =>
    [...inputs].map(([path, t]) => {
      const where = isHost(t) ? "" : idOf(isResident(t) ? storageOf(t).buffer : t);
      return `${path} ${t.dtype} ${t.shape} ${where}`;
    }).join("; ");
}

/** Traces a function for some arguments, plans and records it. */
async function recordCall<A extends readonly TensorTree[], R extends TensorTree>(
  gpu: Gpu,
  { fn, args, inputs }: { readonly fn: (...args: A) => R; readonly args: A; readonly inputs: Leaves },
): Promise<Recorded<R>> {
  const leafAt = (i: number) => (t: Tensor, path: Path): Tensor =>
    isInput(t) ? leaf(path === "" ? `${i}` : `${i}.${path}`, t) : t;
  const result = fn(...args.map((arg, i) => mapTree(arg, leafAt(i))) as unknown as A);
  if (typeof result !== "object" || result === null) {
    refuse("compile", "its function must return a tensor or a record of tensors", result);
  }
  // Rows of fewer bytes have no kernel that copies them.
  const outputs = [...flatten(result).values()].map((t) =>
    isPacked(t.dtype) ? apply(dequantizeOp, [t], null) : t
  );
  const buffers = new Map<Path, GPUBuffer>();
  if (outputs.length === 0) refuse("compile", "its function must return at least one tensor", result);
  const free = (): void => buffers.forEach((buffer) => destroyBuffer(buffer));
  const resolve = (node: Tensor): GPUBuffer => {
    const { path } = node.attrs as { readonly path: Path }, given = inputs.get(path)!;
    if (isResident(given)) return storageOf(given).buffer;
    if (!buffers.has(path)) buffers.set(path, createBuffer(gpu, { label: path, bytes: bytesOf(node) }));
    return buffers.get(path)!;
  };
  const recording: Recording = await record(gpu, { plan: planFor(gpu, outputs), resolve, label: "compile" })
    .catch((error) => {
      free();
      throw error;
    });
  /** What the buffers hold. */
  const held = new Map<Path, Tensor>();
  return {
    async run(now) {
      checkUnconsumed(recording.plan);
      // A step may have reused the buffers while this was recorded.
      for (const given of now.values()) if (isResident(given)) storageOf(given);
      for (const [path, buffer] of buffers) {
        const given = now.get(path)!;
        if (held.get(path) === given) continue;
        held.delete(path);
        writeValues(gpu, buffer, hostValues(given, path));
        held.set(path, given);
      }
      recording.replay(1);
      const sources = outputs.map((t, i) => ({ buffer: recording.roots[i], bytes: elementBytes(t) }));
      const values = (await readBuffers(gpu, sources)).map((bytes, i) => unpackValues(bytes, outputs[i]));
      let next = 0;
      return mapTree(result, () => values[next++]) as Mapped<R, HostData>;
    },
    destroy() {
      recording.destroy();
      free();
    },
  };
}
