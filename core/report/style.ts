/**
 * The style sheet of a report, for light and dark.
 *
 * @module
 */

/** Definitions of SVG that drawings refer to: what fills frozen steps. */
export const SVG_DEFS = `<defs>
  <pattern id="frozen" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
    <rect width="6" height="6" fill="var(--ice)" />
    <rect width="2" height="6" fill="var(--ice-line)" />
  </pattern>
</defs>`;

/** The style sheet of a report, CSS. Its colours are custom properties, for light and dark. */
export const STYLE: string = `
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1b2126; --soft: #5b6670; --rule: #c3cad0;
  --grid: #eceff1; --faint: #a9c6da; --accent: #1c6291; --ice: #e3eaef; --ice-line: #b4c6d3;
  --heat0: #17517c; --heat1: #3a7dac; --heat2: #74a9cc; --heat3: #aacbe0; --heat4: #d6e6ef;
  --heat5: #fbe9cf; --heat6: #f4cf9b; --heat7: #e8a962; --heat8: #d37c33; --heat9: #aa4c12;
  --run0: #1c6291; --run1: #c4641c; --run2: #2c8059; --run3: #9c3f7c; --run4: #8a6b00; --run5: #5a57b8; --run6: #b83a3a;
  --run7: #4d5963; }
@media (prefers-color-scheme: dark) { :root { --paper: #11161a; --card: #181f25; --ink: #e6ebee; --soft: #96a3ad;
  --rule: #3d4952; --grid: #232c33; --faint: #3b6580; --accent: #7cc2ee; --ice: #1e272e; --ice-line: #41525f;
  --heat0: #a5dcfb; --heat1: #74b9e4; --heat2: #4a91bf; --heat3: #326b91; --heat4: #234a64;
  --heat5: #4d3a22; --heat6: #7c5628; --heat7: #ac7331; --heat8: #d99545; --heat9: #fcc67f;
  --run0: #7cc2ee; --run1: #f0a062; --run2: #71c9a0; --run3: #e08fc4; --run4: #d6b957; --run5: #a9a6f2; --run6: #f08c8c;
  --run7: #a9b5bf; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; letter-spacing: -.01em; margin: 0 0 .75rem; }
h3 { font-size: .85rem; color: var(--soft); font-weight: 600; margin: 0 0 .4rem; }
section { margin-top: 3rem; }
dl { display: flex; flex-wrap: wrap; margin: 0; overflow: hidden; background: var(--card);
  border: 1px solid var(--grid); border-radius: 10px; }
dl div { flex: 1 1 10rem; padding: .8rem 1rem; box-shadow: 0 0 0 .5px var(--grid); }
dl .sentence { flex-basis: 100%; }
dl .sentence dd { font-size: 1rem; }
dt { font-size: .8rem; color: var(--soft); }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
figure { margin: 0; }
figcaption, .legend, .note { color: var(--soft); font-size: .875rem; }
figcaption { margin-top: .5rem; max-width: 46rem; }
.plot { overflow-x: auto; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 4px; }
.scroll { overflow: auto; max-height: 34rem; }
.scroll thead th { position: sticky; top: 0; background: var(--paper); }
.plot svg { display: block; width: 100%; min-width: 40rem; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: 0 0 .5rem; }
.legend svg { vertical-align: -1px; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .45rem .75rem; border-bottom: 1px solid var(--grid); vertical-align: top; white-space: nowrap; }
th { font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; }
th:first-child { text-align: left; }
.events :is(th, td):nth-child(2) { text-align: left; min-width: 12rem; white-space: normal; overflow-wrap: anywhere; }
.reasons td small { display: inline; }
.reasons :is(th, td) { padding: .35rem .5rem; }
.reasons td:nth-child(7) { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
.reasons :is(th, td):is(:nth-child(2), :nth-child(3), :nth-child(7)) { text-align: left; }
.settings :is(th, td) { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
.settings th[scope=row] { font: .8rem/1.6 ui-monospace, monospace; }
.named :is(th, td):nth-child(2) { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 10rem; }
tfoot :is(th, td) { border: 0; font-weight: 600; }
td small { display: block; color: var(--soft); font-weight: 400; }
summary { cursor: pointer; }
section > details { margin-top: .5rem; font-size: .875rem; }
@media print { .scroll { max-height: none; } }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1.5rem; }
blockquote, pre { margin: 0; padding: 1rem 1.15rem; background: var(--card); border: 1px solid var(--grid); border-radius: 10px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.live { display: flex; justify-content: space-between; align-items: center; gap: 1rem; min-height: 2.2rem; margin: 0 0 1rem;
  color: var(--soft); font-size: .875rem; }
button { font: inherit; color: var(--ink); background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: .25rem .9rem; cursor: pointer; }
button[aria-pressed=true] { background: var(--accent); color: var(--paper); border-color: var(--accent); }
.samples > div + div, .pair + .samples { margin-top: 1.25rem; }
blockquote { font-family: ui-serif, Georgia, serif; }
pre { font: .8rem/1.5 ui-monospace, monospace; }
`;
