/**
 * Remembers the kernels that plans need many times.
 *
 * @module
 */

import type { TextCache } from "../types.ts";

/**
 * Makes an empty cache for functions of plain data.
 *
 * @returns The cache
 */
export function textCache(): TextCache {
  const ids = new Map<unknown, number>();

  /** The last text of each part of requests: what the device is, for one, is a part of all. */
  const last = new Map<string, { readonly part: object; readonly text: string }>();

  function keyOf(request: unknown): string {
    if (typeof request !== "object" || request === null) return textOf(request);
    let key = "{";
    for (const [name, part] of Object.entries(request)) {
      key += `${name}:${typeof part === "object" && part !== null ? partText(name, part) : textOf(part)},`;
    }
    return `${key}}`;
  }

  function partText(name: string, part: object): string {
    const known = last.get(name);
    if (known?.part === part) return known.text;
    const text = textOf(part);
    last.set(name, { part, text });
    return text;
  }

  function textOf(value: unknown): string {
    if (typeof value === "number") return Object.is(value, -0) ? "-0" : `${value}`;
    if (typeof value === "function") {
      let id = ids.get(value);
      if (id === undefined) ids.set(value, id = ids.size);
      return `f${id}`;
    }
    if (typeof value === "string") return `${value.length}"${value}`;
    if (typeof value !== "object" || value === null) return `${value}`;
    let key = ArrayBuffer.isView(value) ? `${value.constructor.name}{` : Array.isArray(value) ? "[" : "{";
    if (Array.isArray(value)) { for (const item of value) key += `${textOf(item)},`; }
    else {
      const record = value as Readonly<Record<string, unknown>>;
      for (const name of Object.keys(record)) key += `${name}:${textOf(record[name])},`;
    }
    return `${key}}`;
  }

  const caches = new Map<unknown, Map<string, unknown>>();
  return { keyOf, remembered };

  function remembered<A, R>(
    make: (request: A) => R,
    ownKey: (request: A) => string = keyOf,
  ): (request: A) => R {
    if (!caches.has(make)) caches.set(make, new Map());
    const known = caches.get(make) as Map<string, R>;
    return (request: A): R => {
      const key = ownKey(request);
      let result = known.get(key);
      if (result === undefined) known.set(key, result = make(request));
      return result;
    };
  }
}
