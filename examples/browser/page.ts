/**
 * Parts of the page.
 *
 * @module
 */

/** The element of that id, which the page has. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  return document.getElementById(id) as E;
}

/** Shows an element, or takes it away. */
export function show(id: string, shown: boolean): void {
  byId(id).hidden = !shown;
}

/** Offers a file as a download. */
export function offer(name: string, content: Blob): void {
  const link = document.createElement("a"), url = URL.createObjectURL(content);
  [link.href, link.download] = [url, name];
  link.click();
  // The browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
