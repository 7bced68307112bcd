/**
 * Puts Dawn in the place of Deno's WebGPU, so that any test runs on it:
 * `deno test --preload=tests/dawn/preload.ts --allow-ffi ... FILES`.
 *
 * @module
 */

import { dawnGpu, keepAlive } from "../../core/runtime/dawn.ts";

const gpu = await dawnGpu({ unsafe: false });
keepAlive([gpu]);
Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });
