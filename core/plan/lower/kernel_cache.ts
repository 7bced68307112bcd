/**
 * Remembers the kernels that plans need many times.
 *
 * @module
 */

import { plainText } from "../predicates.ts";
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

  const nameOf = (part: unknown): string => {
    if (!ids.has(part)) ids.set(part, ids.size);
    return `f${ids.get(part)}`;
  };

  function keyOf(request: unknown): string {
    if (typeof request !== "object" || request === null) return plainText(request, nameOf);
    let key = "{";
    for (const [name, part] of Object.entries(request)) key += `${name}:${partText(name, part)},`;
    return key;
  }

  function partText(name: string, part: unknown): string {
    if (typeof part !== "object" || part === null) return plainText(part, nameOf);
    const known = last.get(name);
    if (known?.part === part) return known.text;
    const text = plainText(part, nameOf);
    last.set(name, { part, text });
    return text;
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
