/** The HTML report's stylesheet. `b`, `c` and `s` with a number are a broker's colour as background, fill and stroke. */

const light = ["#d9480f", "#1c6fb8", "#7a52b3", "#12876f", "#b0306a", "#6b7280"];
const dark = ["#ff8a3d", "#5aa9ee", "#b08be8", "#3cc7a4", "#f070ab", "#a0a8b4"];

function variables(colors: readonly string[]): string {
  return colors.map((color, i) => `--c${i}:${color};`).join("");
}

const brokers = light.map(
  (_, i) => `.b${i}{background:var(--c${i})}.c${i}{fill:var(--c${i})}.s${i}{stroke:var(--c${i})}`,
);

export const stylesheet = `
:root{--page:#fbfaf8;--card:#fff;--ink:#1c1b19;--soft:#66625b;--rule:#e4e0d8;--track:#f0ede6;--met:#15803d;--missed:#c02626;--open:#77736b;${variables(light)}}
@media(prefers-color-scheme:dark){:root{--page:#14161a;--card:#1c1f25;--ink:#eceae6;--soft:#a09c94;--rule:#30343c;--track:#292d35;--met:#4ade80;--missed:#f87171;--open:#9a968e;${variables(dark)}}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1180px;padding:24px 20px 48px;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.9rem;line-height:1.15;margin:0 0 6px;letter-spacing:-.02em}
h2{font-size:1.2rem;line-height:1.25;margin:0 0 4px}
p{margin:0 0 14px;max-width:80ch}.lead{max-width:none}
small{color:var(--soft);font-size:.8rem;font-weight:400}
td small,th small{display:block}
a{color:inherit;text-underline-offset:3px;text-decoration-color:var(--rule)}
.lead,.brokers{color:var(--soft);font-size:.9rem}
.brokers{list-style:none;padding:0;margin:0 0 20px;display:flex;flex-wrap:wrap;gap:4px 18px}
.brokers b{color:var(--ink)}
.brokers i,thead i{display:inline-block;width:.75em;height:.75em;border-radius:3px;margin-right:.4em}
section{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:20px;margin:0 0 18px}
section>p{color:var(--soft);font-size:.93rem}
.score{font-size:1rem!important;color:var(--soft)}
.score b{font-size:1.7rem;margin-left:.5em}.score b:first-child{margin-left:0}
b.met{color:var(--met)}b.missed{color:var(--missed)}b.open{color:var(--open)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:22px 34px;margin:6px 0 12px}
figure{margin:0;max-width:420px}
figcaption{font-weight:600;font-size:.93rem;margin-bottom:10px;border-bottom:1px solid var(--rule);padding-bottom:5px}
figcaption small{display:block}
svg{display:block;width:100%;height:auto;overflow:visible;font-family:inherit}
svg text{font-size:12px;fill:var(--ink)}
svg .value{font-variant-numeric:tabular-nums;font-weight:600}
svg .tick{font-size:10.5px;fill:var(--soft)}
svg .fault{fill:var(--missed);font-size:11px}
.track{fill:var(--track)}
.whisker{stroke:var(--ink);stroke-width:1.2;opacity:.65;fill:none}
.grid path,.grid .grid{fill:none}
path.grid{stroke:var(--rule)}
.line{stroke-width:3;opacity:.55;fill:none}
.dot{stroke:var(--card);stroke-width:1.5}
.meter{width:110px}.meter .met{fill:var(--met)}.meter .missed{fill:var(--missed)}.mark{stroke:var(--ink);stroke-width:1.5}
.pill{display:inline-block;border:1px solid;border-radius:99px;padding:0 9px;font-size:.8rem;font-weight:600}
.pill.met{color:var(--met)}.pill.missed{color:var(--missed)}.pill.open{color:var(--open)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.88rem}
th,td{text-align:left;vertical-align:top;padding:8px 14px 8px 0;border-top:1px solid var(--rule)}
thead th{border-top:0;color:var(--soft);font-weight:500;font-size:.8rem;vertical-align:bottom}
.overview td,.overview th{white-space:nowrap}.overview th[scope]{white-space:normal;min-width:150px;font-weight:500}.overview b{font-variant-numeric:tabular-nums}.overview .bad{color:var(--missed)}
.figures td{font-variant-numeric:tabular-nums;white-space:nowrap}
.figures thead th{min-width:84px}
details summary{cursor:pointer;color:var(--soft);font-size:.88rem;margin-bottom:6px}
footer{color:var(--soft);font-size:.88rem;padding:0 4px}
footer h2{font-size:1rem;color:var(--ink)}
${brokers.join("")}
@media(max-width:640px){body{padding:18px 12px 36px}section{padding:16px 14px}.goals thead{display:none}.goals,.goals tbody,.goals tr{display:block}.goals td{display:inline-block;border:0;padding:2px 10px 2px 0}.goals tr{border-top:1px solid var(--rule);padding:10px 0}.goals td:first-child,.goals td:last-child{display:block}}
@media print{section{break-inside:avoid}}
`;
