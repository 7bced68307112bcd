/**
 * Dawn, Google's implementation of WebGPU, as an addon of the runtime.
 *
 * @module
 */

import { type FirnError, InputError, NotFoundError } from "../errors.ts";
import { nodeProcess } from "./node.ts";

/** In the package for Node `"webgpu"`. Not imported as a literal, so that a program that has Firn from JSR and does not ask for Dawn does not download its 60 MB. */
const PACKAGE = "npm:webgpu@0.6.2";

/** What the package exports. */
export interface Dawn {
  /**
   * Makes an implementation of WebGPU.
   *
   * @param flags `"key=value"` each: the backend, toggles to enable and to disable
   */
  create(flags: readonly string[]): unknown;
}

/**
 * Loads Dawn.
 *
 * @returns The package
 * @throws {InputError} When the runtime is neither Deno nor Node, or may not open the library
 * @throws {NotFoundError} When the package is not at hand, or has no library that runs here
 */
export async function loadDawn(): Promise<Dawn> {
  const { Deno: deno } = globalThis, node = nodeProcess();
  if (deno === undefined && node === null) {
    throw new InputError(
      'Cannot load Dawn as this runtime must take addons of Node: it is neither Deno nor Node; give an object that speaks WebGPU as "gpu"',
    );
  }
  try {
    return await import(PACKAGE);
  } catch (error) {
    const { os, arch } = deno?.build ?? { os: node!.platform, arch: node!.arch };
    throw refusalOf(error as Error & { readonly code?: string }, { os, arch, node: node !== null });
  }
}

/** What a person can do about a failed import. */
export function refusalOf(
  { name, code, message }: Pick<Error, "name" | "message"> & { readonly code?: string },
  { os, arch, node = false }: { readonly os: string; readonly arch: string; readonly node?: boolean },
): FirnError {
  if (node && code === "ERR_MODULE_NOT_FOUND") {
    return new NotFoundError(
      'Cannot load Dawn as the package "webgpu" must be installed: it is not; install it: npm install webgpu@0.6.2',
    );
  }
  if (name === "NotCapable") {
    return new InputError(
      `Cannot load Dawn as Deno must be allowed to open its library: it is not; run with --allow-ffi, or by "./firn", which does where --gpu dawn is given`,
    );
  }
  if (code === "MODULE_NOT_FOUND") {
    return new NotFoundError(
      `Cannot load Dawn as "${PACKAGE}" must have a library for this platform: it has none for ${os} on ${arch}; take the GPU of Deno itself`,
    );
  }
  if (code === "ERR_DLOPEN_FAILED" || /dlopen|GLIBC|shared object/i.test(message)) {
    return new NotFoundError(
      `Cannot load Dawn as the library of "${PACKAGE}" must run here: ${message}; take the GPU of Deno itself`,
    );
  }
  return new NotFoundError(
    `Cannot load Dawn as "${PACKAGE}" must be at hand: ${
      message.split("\n")[0]
    }; fetch it once, while a network is there: deno cache ${PACKAGE}`,
  );
}
