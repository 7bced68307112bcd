/** A share of a count, in decimal arithmetic: in binary 0.55 * 100 lies just above 55, and its ceiling would be 56. */
export function shareOf(share: number, count: number): number {
  return Number((share * count).toPrecision(12));
}
