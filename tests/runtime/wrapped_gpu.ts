/**
 * Another implementation of WebGPU, as strict as a browser's: objects of its own that cannot be changed, no feature that it
 * does not list, few storage bindings, nothing mapped before it was awaited, and no byte of it given twice. Deno's own does the work behind it.
 *
 * @module
 */

import type { WebGpu } from "@firn/train";

/** How the implementation differs from Deno's own. */
export interface WrapOptions {
  /** Its `maxStorageBuffersPerShaderStage`: browsers give 8 to 16. */
  readonly bindings: number;
  /** Whether it has subgroups. Its shaders must then begin with the directive, which Deno's own compiler refuses. */
  readonly subgroups?: boolean;
  /** Told the names of methods as they are called. */
  readonly onCall?: (name: string) => void;
}

type Native = Record<PropertyKey, unknown>;

const SUBGROUP_FUNCTION = /\bsubgroup[A-Z]/, DIRECTIVES = /^(?:enable|diagnostic)\b[^;]*subgroup[^;]*;$/gm;

/**
 * Wraps Deno's own implementation.
 *
 * @param options What it has
 * @returns What `navigator.gpu` is elsewhere
 */
export function wrappedGpu({ bindings, subgroups = false, onCall }: WrapOptions): WebGpu {
  const natives = new WeakMap<object, object>(), wrappers = new WeakMap<object, object>();
  const features = new Set(["shader-f16", ...subgroups ? ["subgroups"] : []]);

  function unwrap(value: unknown): unknown {
    if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
    const native = natives.get(value);
    if (native !== undefined) return native;
    if (Array.isArray(value)) return value.map(unwrap);
    if (Object.getPrototypeOf(value) !== Object.prototype) return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, unwrap(part)]));
  }

  function wrap(value: unknown): unknown {
    if (value instanceof Promise) return value.then(wrap);
    if (typeof value !== "object" || value === null || value instanceof ArrayBuffer) return value;
    if (!/^GPU/.test(value.constructor.name) || /Error$|Info$|Features$/.test(value.constructor.name)) {
      return value;
    }
    return wrappers.get(value) ?? wrapObject(value as Native);
  }

  function wrapObject(native: Native): object {
    const own = overrides(native);
    const wrapper = new Proxy(Object.freeze(Object.create(null)), {
      get(_, key) {
        if (Object.hasOwn(own, key)) return own[key];
        const value = native[key];
        if (typeof value !== "function") return wrap(value);
        return (...args: unknown[]) => {
          onCall?.(String(key));
          return wrap(value.apply(native, args.map(unwrap)));
        };
      },
      set(_, key) {
        throw new TypeError(`Cannot assign to "${String(key)}" of an object of WebGPU`);
      },
    });
    natives.set(wrapper, native);
    wrappers.set(native, wrapper);
    return wrapper;
  }

  function overrides(native: Native): Native {
    switch (native.constructor.name) {
      case "GPUAdapter":
        return { features, requestDevice: (wanted?: GPUDeviceDescriptor) => requestDevice(native, wanted) };
      case "GPUSupportedLimits":
        return { maxStorageBuffersPerShaderStage: bindings };
      case "GPUDevice":
        return { features, createShaderModule: (text: GPUShaderModuleDescriptor) => compile(native, text) };
      case "GPUBuffer":
        return mappedWhenAwaited(native, onCall);
      default:
        return {};
    }
  }

  async function requestDevice(native: Native, wanted: GPUDeviceDescriptor = {}): Promise<unknown> {
    for (const feature of wanted.requiredFeatures ?? []) {
      if (!features.has(feature)) throw new TypeError(`"${feature}" is no feature of this adapter`);
    }
    const most = wanted.requiredLimits?.maxStorageBuffersPerShaderStage ?? 8;
    if (most > bindings) throw new DOMException("a limit is above the adapter's", "OperationError");
    const adapter = native as unknown as GPUAdapter;
    const requiredLimits = { ...wanted.requiredLimits, maxStorageBuffersPerShaderStage: most };
    return wrap(await adapter.requestDevice({ ...wanted, requiredLimits }));
  }

  function compile(native: Native, { code, ...rest }: GPUShaderModuleDescriptor): unknown {
    const enabled = /^enable subgroups;$/m.test(code);
    // As a browser would: an error of validation where the directive is missing.
    const accepted = SUBGROUP_FUNCTION.test(code) && !enabled
      ? "directive missing"
      : code.replace(DIRECTIVES, "");
    const device = native as unknown as GPUDevice;
    return wrap(device.createShaderModule({ ...rest, code: accepted }));
  }

  return wrapObject(navigator.gpu as unknown as Native) as WebGpu;
}

/** A buffer is mapped only when the promise of `mapAsync` has resolved. */
function mappedWhenAwaited(native: Native, onCall: WrapOptions["onCall"]): Native {
  const buffer = native as unknown as GPUBuffer;
  let mapped = false, given: (readonly [from: number, to: number])[] = [];
  return {
    async mapAsync(mode: number, offset?: number, size?: number): Promise<void> {
      await buffer.mapAsync(mode, offset, size);
      mapped = true;
    },
    getMappedRange(offset?: number, size?: number): ArrayBuffer {
      onCall?.("getMappedRange");
      if (!mapped) throw new DOMException("the buffer is not mapped", "OperationError");
      const from = offset ?? 0, to = size === undefined ? buffer.size : from + size;
      if (given.some(([begin, end]) => begin < to && from < end)) {
        throw new DOMException("a part of the range was given before", "OperationError");
      }
      given.push([from, to]);
      return buffer.getMappedRange(offset, size);
    },
    unmap(): void {
      mapped = false;
      given = [];
      buffer.unmap();
    },
  };
}
