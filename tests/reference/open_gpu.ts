/**
 * The device of tests whose subject is not how products are computed.
 *
 * @module
 */

import { type Gpu, openGpu } from "@firn/train";
import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import { ALL_CASES } from "./all_cases.ts";

/**
 * Opens the device. A software adapter computes matrix products in blocks of 4 rows, whose kernels compile in a fifth
 * of the time of the default ones; `tests/kernels/matmul_test.ts` compares all blocks with a reference.
 */
export async function openTestGpu(): Promise<Gpu> {
  const gpu = await openGpu(), { software, subgroups } = gpu.target;
  if (!software || ALL_CASES) return gpu;
  const get = (key: string): MatmulVariant => {
    const [m, n] = key.match(/(\d+)x(\d+)x\d+ [NT]/)!.slice(1).map(Number);
    return { kind: "direct", tm: Math.min(4, m), tn: Math.min(2, Math.ceil(n / 8)), subgroups };
  };
  return {
    ...gpu,
    target: { ...gpu.target, variants: Object.assign(new Map<string, MatmulVariant>(), { get }) },
  };
}
