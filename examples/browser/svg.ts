/**
 * Drawing as SVG elements.
 *
 * @module
 */

/** Width of a plot in units of its drawing. */
export const WIDTH = 800;

/** Attributes of an element. */
type Attributes = Readonly<Record<string, string | number>>;

/** Makes an element. */
export function svg(
  name: string,
  attributes: Attributes,
  ...children: readonly (Node | string)[]
): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

/** Round numbers from a range, about so many. */
export function ticks(from: number, to: number, most: number): number[] {
  const rough = (to - from) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough)!;
  const first = Math.ceil(from / step), last = Math.floor(to / step);
  return Array.from(
    { length: Math.max(0, last - first + 1) },
    (_, i) => Number(((first + i) * step).toPrecision(12)),
  );
}

/** Whole steps to name below a plot of steps. */
export function stepTicks([from, to]: readonly [number, number]): number[] {
  return to - from < 2 ? [Math.round((from + to) / 2)] : ticks(from, to, 8).filter(Number.isInteger);
}

/** A figure with a heading, its drawing, and what it shows in words. */
export function figure(
  { title, drawing, caption, height, legend, extras = [] }: {
    readonly title: string;
    readonly drawing: readonly Node[];
    readonly caption: string;
    readonly height: number;
    /** Before the drawing. */
    readonly legend?: Node;
    /** Behind the caption. */
    readonly extras?: readonly Node[];
  },
): HTMLElement {
  const section = document.createElement("section"), heading = document.createElement("h2");
  heading.textContent = title;
  const frame = document.createElement("div"), words = document.createElement("figcaption");
  frame.className = "plot";
  frame.append(
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": `${title}. ${caption}` },
      ...drawing,
    ),
  );
  words.textContent = caption;
  const whole = document.createElement("figure");
  whole.append(...legend === undefined ? [] : [legend], frame, words, ...extras);
  section.append(heading, whole);
  return section;
}
