/**
 * Compiles every shader that the last run of the tests kept with Tint, the compiler of Dawn and Chrome, on a device without a
 * driver: `./firn deno run --allow-ffi --allow-read --allow-write tests/dawn/tint.ts`
 *
 * @module
 */

import { print } from "../../examples/print.ts";
import { loadDawn } from "../../core/host/load_dawn.ts";
import { keepAlive } from "../../core/runtime/dawn.ts";
import { requestDevice } from "../../core/runtime/features.ts";
import { sourceOf } from "../../core/runtime/pipelines.ts";
import { SHADERS } from "./shaders.ts";

/** Errors that are shown. */
const SHOWN = 10;

/** Every text, once. */
function kept(): Set<string> {
  const texts = new Set<string>();
  for (const { name } of Deno.readDirSync(SHADERS)) {
    for (const line of Deno.readTextFileSync(`${SHADERS}/${name}`).trimEnd().split("\n")) {
      texts.add(JSON.parse(line));
    }
  }
  return texts;
}

const { create } = await loadDawn();
const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]) as GPU;
const adapter = (await gpu.requestAdapter())!,
  granted = await requestDevice(adapter, gpu),
  { device } = granted;
keepAlive([gpu, adapter, device]);
device.addEventListener("uncapturederror", (event) => event.preventDefault());

const texts = kept(), wrong: string[] = [];
for (const text of texts) {
  const code = sourceOf(granted, text);
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
  const error = messages.find(({ type }) => type === "error");
  if (error !== undefined) wrong.push(`${error.message}\n${code.split("\n")[error.lineNum - 1]}`);
}
device.destroy();
// Kernels of a later commit shall not be found beside those of this one.
Deno.removeSync(SHADERS, { recursive: true });
for (const text of wrong.slice(0, SHOWN)) print(text);
print(`${texts.size} shaders, ${wrong.length} of them wrong for Tint`);
if (texts.size === 0 || wrong.length > 0) Deno.exit(1);
