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

  function keyOf(value: unknown): string {
    if (typeof value === "function") {
      if (!ids.has(value)) ids.set(value, ids.size);
      return `f${ids.get(value)}`;
    }
    if (typeof value === "string") return `${value.length}"${value}`;
    if (typeof value !== "object" || value === null) return Object.is(value, -0) ? "-0" : `${value}`;
    let key = "{";
    if (Array.isArray(value)) { for (const item of value) key += `${keyOf(item)},`; }
    else for (const [name, item] of Object.entries(value)) key += `${name}:${keyOf(item)},`;
    return `${key}}`;
  }

  const caches = new Map<unknown, Map<string, unknown>>();
  return { keyOf, remembered };

  function remembered<A, R>(make: (request: A) => R): (request: A) => R {
    if (!caches.has(make)) caches.set(make, new Map());
    const known = caches.get(make) as Map<string, R>;
    return (request: A): R => {
      const key = keyOf(request);
      let result = known.get(key);
      if (result === undefined) known.set(key, result = make(request));
      return result;
    };
  }
}
