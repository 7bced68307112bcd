/**
 * Keeps the text of every shader that tests compile, for `tests/dawn/tint.ts`: `deno test --preload=tests/dawn/record.ts`.
 *
 * @module
 */

import { SHADERS } from "./shaders.ts";

const { createShaderModule } = GPUDevice.prototype;
const seen = new Set<string>(), path = `${SHADERS}/${crypto.randomUUID()}.jsonl`;

GPUDevice.prototype.createShaderModule = function (descriptor: GPUShaderModuleDescriptor): GPUShaderModule {
  const { code } = descriptor;
  // What is no kernel is a probe, or wrong on purpose.
  if (code.includes("@compute") && !descriptor.label?.startsWith("probe") && !seen.has(code)) {
    seen.add(code);
    Deno.mkdirSync(SHADERS, { recursive: true });
    Deno.writeTextFileSync(path, JSON.stringify(code) + "\n", { append: true });
  }
  return createShaderModule.call(this, descriptor);
};
