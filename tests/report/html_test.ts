/** Values in HTML: only what Firn marked itself stays as it is. */

import { assertEquals } from "@std/assert";
import { html, type Part, raw } from "../../core/report/html.ts";

Deno.test("html escapes everything but marked text, whatever a log holds", () => {
  const bad = "<script>", escaped = "&lt;script&gt;";
  const parts: readonly [unknown, string][] = [
    [bad, escaped],
    [[bad, 1], `${escaped}1`],
    [raw("<b>"), "<b>"],
    [{ text: bad }, "[object Object]"],
    [{ toString: () => bad }, escaped],
    [null, "null"],
    [true, "true"],
  ];
  for (const [part, expected] of parts) assertEquals(html`${part as Part}`.text, expected);
});
