/**
 * The arithmetic of a report: averages, thinning, numbers as text.
 *
 * @module
 */

/** A point of a line. The line has a gap where y is not finite. */
export interface Point {
  /** Across. */
  readonly x: number;
  /** Up. */
  readonly y: number;
}

/** A number with three significant digits, or another number of digits; a dash for none. */
export function short(value: number, digits = 3): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : "–";
}

/** The end of a name that fits beside the axis of a plot: it tells more than its start. */
export function fitted(name: string): string {
  return name.length > 18 ? `…${name.slice(-17)}` : name;
}

/** A rounded number, with commas at thousands. */
export function whole(value: number): string {
  return Math.round(value).toLocaleString("en");
}

/** A number with three significant digits and an SI prefix, to be followed by a unit. */
export function scaled(value: number): string {
  if (!Number.isFinite(value)) return "– ";
  const power = value === 0 ? 0 : Math.max(0, Math.min(5, Math.floor(Math.log10(Math.abs(value)) / 3)));
  return `${short(value / 1000 ** power)} ${["", "k", "M", "G", "T", "P"][power]}`;
}

/** The median; the upper one of two middle values. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** The quantile of a share; undefined without values. */
export function quantile(values: readonly number[], share: number): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor(share * (values.length - 1))];
}

/** Moving means of finite values over `reach` neighbours on both sides; NaN where there are none. */
export function centredMeans(values: readonly number[], reach: number): number[] {
  const sums = [0], counts = [0];
  values.forEach((value, i) => {
    sums.push(sums[i] + (Number.isFinite(value) ? value : 0));
    counts.push(counts[i] + (Number.isFinite(value) ? 1 : 0));
  });
  return values.map((_, i) => {
    const [from, to] = window(i, { reach, length: values.length });
    return (sums[to] - sums[from]) / (counts[to] - counts[from]);
  });
}

/** Moving medians over `reach` neighbours on both sides. */
export function centredMedians(values: readonly number[], reach: number): number[] {
  return values.map((_, i) => median(values.slice(...window(i, { reach, length: values.length }))));
}

function window(i: number, { reach, length }: { reach: number; length: number }): [from: number, to: number] {
  return [Math.max(0, i - reach), Math.min(length, i + reach + 1)];
}

/** Reduces a line to at most `most` points: the minimum and the maximum of each interval. */
export function thin(points: readonly Point[], most: number): Point[] {
  if (points.length <= most) return [...points];
  const length = Math.ceil(2 * points.length / most);
  const stretches = Array.from(
    { length: Math.ceil(points.length / length) },
    (_, i) => points.slice(i * length, (i + 1) * length),
  );
  return stretches.flatMap((stretch) => {
    const sorted = stretch.filter(({ y }) => Number.isFinite(y)).sort((a, b) => a.y - b.y);
    if (sorted.length < 2) return [sorted[0] ?? stretch[0]];
    return [sorted[0], sorted[sorted.length - 1]].sort((a, b) => a.x - b.x);
  });
}
