/**
 * What a workgroup computes of a product: which tile, and which part of its sums.
 *
 * @module
 */

/** Tiles along m that run at the same time, so that they share their reads of B in the cache. */
const PANEL = 8;

/** WGSL for a workgroup that computes complete sums. */
export function wholeSums(reach: string): string {
  return `let instance = wid.z; let begin = 0u; let end = ${reach};`;
}

/** WGSL for a workgroup that computes one part of the sums. The grid gives the number of parts, so the text does not depend on it. */
export function splitSums(
  { batch, reach, bk }: { readonly batch: number; readonly reach: string; readonly bk: number },
): string {
  return `let parts = nwg.z / ${batch}u; let instance = wid.z / parts; let part = wid.z % parts;
let depth = (${reach} + parts * ${bk}u - 1u) / (parts * ${bk}u) * ${bk}u;
let begin = part * depth; let end = min(begin + depth, ${reach});`;
}

/** WGSL for the first load of a workgroup. The last parts of some sums are empty, and begin behind the operands. */
export function firstLoad(load: string, split: number): string {
  return split === 1 ? load : `if (k0 < end) {\n${load}}\n`;
}

/** WGSL for the tile of a workgroup: panels of several tiles along m, from left to right. */
export function tileIndex(tilesM: number, tilesN: number): string {
  if (tilesM <= 1 || tilesN <= PANEL) return "let tile = vec2u(wid.y, wid.x);";
  return `let at = wid.y * ${tilesN}u + wid.x;
let first = at / ${PANEL * tilesN}u * ${PANEL}u;
let high = min(${PANEL}u, ${tilesM}u - first);
let inside = at % ${PANEL * tilesN}u;
let tile = vec2u(first + inside % high, inside / high);`;
}
