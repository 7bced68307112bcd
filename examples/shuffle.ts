/**
 * Orders that follow from a seed.
 *
 * @module
 */

/**
 * Random numbers that follow from a text (FNV-1a, then xorshift32).
 *
 * @param seed The text
 * @returns From n to a whole number below it; another at each call
 */
export function draws(seed: string): (n: number) => number {
  let state = 2166136261;
  for (const character of seed) state = Math.imul(state ^ character.charCodeAt(0), 16777619);
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

/**
 * Whole numbers below `count` in another order (Fisher and Yates).
 *
 * @param count How many
 * @param below Random numbers
 * @returns The order
 */
export function shuffled(count: number, below: (n: number) => number): Uint32Array<ArrayBuffer> {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
