/** A share of a count, rounded to 12 digits: 0.55 * 100 is just above 55 in binary, and its ceiling would be 56. */
export function shareOf(share: number, count: number): number {
  return Number((share * count).toPrecision(12));
}
