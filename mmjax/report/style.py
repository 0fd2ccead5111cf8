"""The page's style sheet. Light and dark follow the reader's system; one column below 860 px."""

CSS = """
:root { --paper: #f7f7f5; --card: #fff; --ink: #1d1d21; --soft: #686872; --line: #e3e3df; --accent: #3f5bd9;
  --good: #12814a; --good-wash: #e5f5ec; --bad: #9a4a12; --bad-wash: #fbeee2; --mat: #efefec;
  --c0: #3f5bd9; --c1: #d9730d; --c2: #12876f; --c3: #b4358f; --c4: #7a6a00; --c5: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --paper: #131316; --card: #1c1c21; --ink: #ececf0; --soft: #a0a0ac;
  --line: #303038; --accent: #93a7ff; --good: #4fd08d; --good-wash: #173526; --bad: #f0a868; --bad-wash: #38281a;
  --mat: #26262c; --c0: #93a7ff; --c1: #ffa657; --c2: #4fd0b4; --c3: #f08fd0; --c4: #d9c75a; --c5: #a7adb8; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0 auto; max-width: 1176px; padding: 2.5rem 1.5rem 5rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; letter-spacing: -.02em; }
h2 { margin: 3.5rem 0 1rem; padding-top: 1.25rem; border-top: 1px solid var(--line); font-size: 1.4rem;
  letter-spacing: -.01em; }
h3 { margin: 2.25rem 0 .25rem; font-size: 1.1rem; }
h4 { margin: 0 0 .6rem; font-size: .95rem; }
p { margin: .25rem 0 1rem; max-width: 54rem; }
body > header p { margin: .5rem 0 1rem; color: var(--soft); max-width: none; }
nav { display: flex; flex-wrap: wrap; gap: .4rem; }
nav a { padding: .2rem .75rem; border: 1px solid var(--line); border-radius: 99px; background: var(--card); color: var(--ink);
  font-size: .87rem; text-decoration: none; }
nav a:hover { border-color: var(--accent); color: var(--accent); }
main > section:first-of-type h2 { margin-top: 1.5rem; }
.quiet { color: var(--soft); font-size: .87rem; font-weight: 400; }
.notes { margin: 1.5rem 0 0; padding: .7rem 1rem .7rem 2rem; border-radius: 10px; background: var(--bad-wash);
  color: var(--bad); }
.scroll { overflow-x: auto; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); gap: 1rem; margin-bottom: 1.5rem; }
.tile, .card, .chart, .matrix { border: 1px solid var(--line); border-radius: 12px; background: var(--card); }
.tile { padding: 1rem 1.15rem; }
.tile p { margin: 0; color: var(--soft); font-size: .87rem; }
.tile b { font-size: 2.1rem; line-height: 1.3; letter-spacing: -.02em; font-variant-numeric: tabular-nums; }
.meter { height: 5px; margin: .15rem 0 .6rem; border-radius: 3px; background: var(--mat); overflow: hidden; }
.meter i { display: block; height: 100%; border-radius: 3px; background: var(--accent); }

table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--line); text-align: left; font-weight: 400; }
tbody th { font-weight: 600; }
thead th { color: var(--soft); font-size: .82rem; }
.numbers { width: 100%; }
.numbers th, .numbers td { white-space: nowrap; }
.numbers th:nth-child(n+3), .numbers td:nth-child(n+3) { text-align: right; }
.numbers + .quiet { margin-top: .6rem; }
.facts th { padding-right: 2rem; color: var(--soft); font-weight: 400; vertical-align: top; }

.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1.25rem; }
.column { min-width: 0; }
.card { padding: .85rem 1rem 1rem; margin-bottom: .8rem; }
.card header { display: flex; justify-content: space-between; gap: 1rem; margin-bottom: .8rem; }
.card q { display: block; font-weight: 600; }
.pill { display: inline-block; margin-top: .15rem; padding: .02rem .6rem; border-radius: 99px; font-size: .8rem;
  font-variant-numeric: tabular-nums; }
.pill.good { background: var(--good-wash); color: var(--good); }
.pill.bad { background: var(--bad-wash); color: var(--bad); }
.strip { display: grid; grid-template-columns: repeat(5, 96px); justify-content: space-between; }
.cell { position: relative; width: 96px; height: 96px; border-radius: 6px; background: var(--mat);
  outline: 1px solid var(--line); }
.cell img, .wanted img { display: block; width: 100%; height: 100%; object-fit: contain; border-radius: inherit; }
.tiny { image-rendering: pixelated; }
.cell.right { outline: 3px solid var(--good); outline-offset: 1px; }
.cell.right::after { content: "✓"; position: absolute; right: -8px; top: -8px; width: 20px; height: 20px; border-radius: 50%;
  background: var(--good); color: var(--card); font: bold 13px/20px system-ui, sans-serif; text-align: center; }
.card header .wanted { flex: none; width: 64px; text-align: center; color: var(--good); font-size: .75rem; line-height: 1.2; }
.card header .wanted img { width: 64px; height: 64px; border-radius: 6px; outline: 2px dashed var(--good); outline-offset: 1px;
  margin-bottom: 4px; }
.card.i2t { display: grid; grid-template-columns: 96px 1fr; gap: 1rem; }
.card ol { margin: .4rem 0 0; padding-left: 2.2rem; }
.card li { padding: .06rem .4rem; color: var(--soft); }
.card li::marker { font-size: .8rem; font-variant-numeric: tabular-nums; }
.card li.right { border-radius: 5px; background: var(--good-wash); outline: 1.5px solid var(--good); color: var(--ink);
  font-weight: 600; }
.card li.right span::after { content: " ✓"; color: var(--good); }
.card li.wanted { list-style-type: "… "; margin-top: .35rem; border-radius: 5px; outline: 1.5px dashed var(--good);
  color: var(--ink); }

.matrix { margin: 1rem 0 0; padding: 1rem; width: fit-content; max-width: 100%; }
.matrix .grid { display: grid; grid-template-columns: auto auto; width: max-content; gap: 3px 8px; }
.matrix .columns { grid-column: 2; display: grid; grid-template-columns: repeat(var(--n), var(--cell)); }
.matrix .columns img { width: var(--cell); height: var(--cell); padding: 1px; object-fit: contain; image-rendering: auto; }
.matrix .rows { grid-column: 1; width: 190px; margin: 0; padding: 0; list-style: none; position: sticky; left: 0;
  background: var(--card); }
.matrix .rows li { height: var(--cell); overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  font-size: 12px; line-height: var(--cell); text-align: right; }
.matrix .map { grid-column: 2; width: calc(var(--n) * var(--cell)); height: calc(var(--n) * var(--cell)); border-radius: 3px;
  image-rendering: pixelated; }
.matrix figcaption { display: flex; align-items: center; justify-content: flex-end; gap: .5rem; margin-top: .8rem;
  color: var(--soft); font-size: .82rem; font-variant-numeric: tabular-nums; }
.matrix figcaption i { width: 140px; height: 10px; border-radius: 3px; }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 1rem;
  margin-bottom: .8rem; }
.chart { display: flex; flex-direction: column; margin: 0; padding: .9rem 1rem .8rem; }
.chart figcaption { font-weight: 600; }
.chart svg { display: block; width: 100%; height: auto; margin-top: auto; overflow: visible; }
.chart.empty p { margin: auto; padding: 3rem 0; color: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .15rem 0 .5rem; padding: 0; list-style: none;
  color: var(--soft); font-size: .82rem; }
.legend b { color: var(--ink); font-variant-numeric: tabular-nums; }
.legend li::before { content: ""; display: inline-block; width: 14px; border-top: 3px solid var(--c); border-radius: 2px;
  margin-right: .4rem; vertical-align: .27em; }
.legend .again::before { border-top-style: dotted; }
.s0 { --c: var(--c0); } .s1 { --c: var(--c1); } .s2 { --c: var(--c2); }
.s3 { --c: var(--c3); } .s4 { --c: var(--c4); } .s5 { --c: var(--c5); }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg .guide { stroke: var(--soft); stroke-dasharray: 5 4; }
svg .guide-label { paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
svg polyline { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
svg .again polyline { stroke-dasharray: 2 3; }
svg .dot { fill: var(--c); }
svg .hover { fill: var(--c); fill-opacity: 0; }
svg .hover:hover { fill-opacity: .8; }

details { border: 1px solid var(--line); border-radius: 12px; background: var(--card); padding: .7rem 1rem; }
details + details, table + details, .quiet + details { margin-top: 1rem; }
summary { cursor: pointer; }
pre { margin: .7rem 0 0; overflow-x: auto; font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  white-space: pre-wrap; }

@media (max-width: 1100px) { .strip { grid-template-columns: repeat(5, 64px); justify-content: start; gap: 8px; }
  .strip .cell { width: 64px; height: 64px; } }
@media (max-width: 860px) { .pair { grid-template-columns: 1fr; } .tiles { grid-template-columns: 1fr 1fr; }
  .strip { grid-template-columns: repeat(5, 96px); } .strip .cell { width: 96px; height: 96px; } }
@media (max-width: 620px) { body { padding: 1.25rem .9rem 3rem; } h1 { font-size: 1.6rem; }
  .tiles { gap: .6rem; } .tile { padding: .8rem; } .tile b { font-size: 1.7rem; }
  .card { padding: .8rem; }
  .strip { grid-template-columns: repeat(5, minmax(0, 64px)); gap: 4px; justify-content: space-between; }
  .strip .cell { width: 100%; height: auto; aspect-ratio: 1; }
  .card.i2t { grid-template-columns: 64px 1fr; } .card.i2t .cell { width: 64px; height: 64px; }
  .matrix { padding: .7rem; } .matrix .rows { width: 104px; } }
"""
