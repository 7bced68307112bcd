/**
 * What an op's kernel is told, and what it answers.
 *
 * @module
 */

import type { MatrixProducts } from "../kernels/matmul/matrix_products.ts";
import type { MatmulVariant } from "../kernels/matmul/types.ts";
import type { MatrixUnit } from "../kernels/matrix_unit.ts";
import type { StoredSpec } from "./spec.ts";

/** A compute shader: WGSL and a grid (see `kernels/kernel.ts`). */
export interface KernelText {
  /** Short name for the profiler. */
  readonly name: string;
  /** WGSL with the entry point `main`. */
  readonly code: string;
  /** Workgroups in x, y and z. */
  readonly grid: readonly [number, number, number];
  /** Floating-point operations of one launch. */
  readonly flops: number;
}

/** The properties of a device that kernels depend on. */
export interface Target {
  /** Whether the adapter is a software rasteriser, which prefers few threads and no workgroup memory. */
  readonly software: boolean;
  /** Whether at least eight neighbouring threads can broadcast values to each other. */
  readonly subgroups: boolean;
  /** Whether at least sixteen can; false when absent. */
  readonly wideSubgroups?: boolean;
  /** Threads of every subgroup; 0, as when absent, where the device has none or chooses between several sizes. */
  readonly subgroupSize?: number;
  /** Products that a subgroup can compute at once, the ones with f32 sums first; none when absent. */
  readonly matrices?: readonly MatrixUnit[];
  /** What computes matrix products on them; when absent, threads do. */
  readonly units?: MatrixProducts;
  /** Bytes of workgroup memory. */
  readonly workgroupBytes: number;
  /** Storage buffers that one kernel can bind. */
  readonly maxBindings: number;
  /** Bytes that one of these bindings can have; no limit when absent. */
  readonly maxBindingBytes?: number;
  /** A binding begins at a multiple of so many bytes of its buffer; 256 when absent, which every adapter can do. */
  readonly bindingAlignment?: number;
  /** The fastest variants of measured products, by `productKey`; a cost model chooses for others. */
  readonly variants?: ReadonlyMap<string, MatmulVariant>;
}

/** A launch of a kernel. */
export interface KernelCall {
  /** The kernel. */
  readonly kernel: KernelText;
  /** Indices of the inputs to bind, in order; all when absent. */
  readonly reads?: readonly number[];
  /** Indices of inputs that are not bound, but must exist before it runs; none when absent. */
  readonly waits?: readonly number[];
  /** Indices of the outputs to bind, in order; the wanted ones when absent. */
  readonly writes?: readonly number[];
  /**
   * An input whose buffer the only output may share, and the kernel for that case: it binds the other inputs in order,
   * then the shared buffer. The planner uses it when nothing reads the input later. None when absent.
   */
  readonly alias?: { readonly input: number; readonly kernel: () => KernelText };
}

/** The argument of an op's `kernel`. */
export interface KernelRequest<A = unknown> {
  /** Shapes and storage types of the inputs; f16 only if the planner knows that the kernel reads it. */
  readonly inputs: readonly StoredSpec[];
  /** Shapes and storage types of all outputs, wanted or not. */
  readonly outputs: readonly StoredSpec[];
  /** Which outputs are read; only those are bound. */
  readonly wanted: readonly boolean[];
  /** Attributes of the node. */
  readonly attrs: A;
  /** The device. */
  readonly target: Target;
}
