// The viewer's own script: runs once a viewer, with Gradio's element, props, trigger and watch.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector(".mv-viewer"), stage = part("stage"), controls = [...element.querySelectorAll("[data-look]")];
const control = (name) => controls.find((c) => c.dataset.look === name);
const read = (c) => c.type === "checkbox" ? c.checked : c.type === "range" ? Number(c.value) : c.value;
const look = () => Object.fromEntries(controls.map((c) => [c.dataset.look, read(c)]));
const selects = @selects;
const clamp = (x) => Math.min(1, Math.max(0, x));
let shown = {}, cursor = null, start = null, dragged = null;

const apply = () => {
  const now = look();
  root.dataset.layout = now.layout;
  part("map").style.opacity = now.opacity / 100;
  part("map").hidden = !(now.overlay && shown.map);
  part("map").style.clipPath = now.layout === "wipe" ? `inset(0 0 0 ${now.wipe}%)` : "none";
  part("outline").hidden = !(now.outline && shown.outline);
  control("outline").disabled = !shown.outline;
  part("grid").hidden = !now.grid;
  const slope = 100 / now.window, intercept = 0.5 - slope * now.level / 100;
  const plain = now.window === 100 && now.level === 50;
  for (const f of element.querySelectorAll("feFuncR, feFuncG, feFuncB")) {
    f.setAttribute("slope", slope); f.setAttribute("intercept", intercept);
  }
  const filter = plain ? "none" : `url(#${element.querySelector("filter").id})`;
  part("film").style.filter = filter; part("plain").style.filter = filter;
};
const picture = (name, url) => { const at = part(name); if (url) at.src = url; else at.removeAttribute("src"); at.hidden = !url; };
const mark = (row, col) => {
  const cells = shown.cells || [], at = part("cell");
  if (!cells.length || row === null) { at.hidden = true; part("hover").textContent = shown.map ? " " : ""; return; }
  const rows = cells.length, cols = cells[0].length;
  at.hidden = false;
  at.style.cssText = `left:${100 * col / cols}%;top:${100 * row / rows}%;width:${100 / cols}%;height:${100 / rows}%`;
  part("hover").textContent = `Row ${row}, column ${col}: ${cells[row][col]} ${shown.label}`;
};
const render = () => {
  shown = props.value && typeof props.value === "object" ? props.value : {};
  root.dataset.empty = shown.film ? "false" : "true";
  for (const name of ["film", "map", "outline"]) picture(name, shown[name]);
  picture("plain", shown.film);
  part("film").alt = shown.alt || "The film";
  part("map").alt = shown.map ? "Map over the film" : "";
  part("outline").alt = shown.outline ? "Contour of the known region" : "";
  for (const [name, value] of Object.entries(shown.look || {})) {
    const at = control(name);
    if (at) { if (at.type === "checkbox") at.checked = value; else at.value = value; }
  }
  const cells = shown.cells || [];
  if (cells.length) part("grid").style.backgroundSize = `${100 / cells[0].length}% ${100 / cells.length}%`;
  part("bar").hidden = !shown.map;
  part("low").textContent = shown.low || ""; part("high").textContent = shown.high || "";
  part("label").textContent = shown.label || "";
  part("colours").style.background = `linear-gradient(to right, ${(shown.colours || ["#000", "#000"]).join(",")})`;
  part("notes").replaceChildren(...(shown.notes || []).map((text) => {
    const item = document.createElement("li"); item.textContent = text; return item;
  }));
  cursor = null; part("box").hidden = true; mark(null); apply();
};
const place = (event) => {
  const box = part("film").getBoundingClientRect();
  return { x: clamp((event.clientX - box.left) / box.width), y: clamp((event.clientY - box.top) / box.height) };
};
const cellAt = (p) => {
  const cells = shown.cells || [];
  if (!cells.length) return null;
  const at = (x, n) => Math.min(n - 1, Math.floor(x * n));
  return { row: at(p.y, cells.length), col: at(p.x, cells[0].length) };
};
const drawBox = (a, b) => {
  const at = part("box"); at.hidden = false;
  at.style.cssText = `left:${100 * Math.min(a.x, b.x)}%;top:${100 * Math.min(a.y, b.y)}%;` +
    `width:${100 * Math.abs(a.x - b.x)}%;height:${100 * Math.abs(a.y - b.y)}%`;
};
stage.addEventListener("pointermove", (event) => {
  const p = place(event);
  if (start) {
    if (Math.hypot(p.x - start.x, p.y - start.y) > 0.02) { dragged = p; drawBox(start, p); }
    return;
  }
  const c = cellAt(p); if (c) mark(c.row, c.col);
});
stage.addEventListener("pointerleave", () => { if (!start) { if (cursor) mark(cursor.row, cursor.col); else mark(null); } });
if (selects) {
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (event.pointerType === "touch" && !part("touch").checked) { start = null; return; }
    start = place(event); dragged = null; stage.setPointerCapture(event.pointerId);
    event.preventDefault(); stage.focus({ preventScroll: true });
  });
  stage.addEventListener("pointerup", (event) => {
    if (!start) return;
    if (dragged) {
      const [a, b] = [start, dragged];
      trigger("box", { x0: Math.min(a.x, b.x), y0: Math.min(a.y, b.y), x1: Math.max(a.x, b.x), y1: Math.max(a.y, b.y) });
      start = dragged = null;
    } else { const p = start; start = null; choose(cellAt(p)); }
  });
  stage.addEventListener("pointercancel", () => { start = dragged = null; });
  stage.addEventListener("click", (event) => {
    if (event.pointerType === "touch" && !part("touch").checked) choose(cellAt(place(event)));
  });
  part("touch").addEventListener("change", (event) => { stage.style.touchAction = event.target.checked ? "none" : "auto"; });
}
const choose = (c) => { if (c) { cursor = c; mark(c.row, c.col); trigger("cell", c); } };
stage.addEventListener("keydown", (event) => {
  const cells = shown.cells || [], move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!cells.length || event.ctrlKey || event.metaKey || event.altKey) return;
  if (move) {
    const [rows, cols] = [cells.length, cells[0].length], from = cursor || { row: Math.floor(rows / 2), col: Math.floor(cols / 2) };
    cursor = { row: Math.min(rows - 1, Math.max(0, from.row + move[0])), col: Math.min(cols - 1, Math.max(0, from.col + move[1])) };
    mark(cursor.row, cursor.col);
  } else if (event.key === "Enter" && cursor && selects) choose(cursor);
  else if (event.key === "Escape") { cursor = null; mark(null); stage.blur(); }
  else return;
  event.preventDefault(); event.stopPropagation();
});
root.addEventListener("mv-key", (event) => {
  const what = event.detail;
  if (what === "overlay" || what === "outline") { const c = control(what); if (!c.disabled) c.checked = !c.checked; }
  else { const c = control("opacity"); c.value = Number(c.value) + (what === "more" ? 10 : -10); }
  apply(); trigger("look", look());
});
for (const c of controls) {
  c.addEventListener("input", apply);
  c.addEventListener("change", () => { apply(); trigger("look", look()); });
}
if (selects) root.dataset.selects = "true";
watch("value", render);
render();
