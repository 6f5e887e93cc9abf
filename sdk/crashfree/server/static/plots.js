// Draws the plots of a view from the definitions that come with it, in the face that is shown.
// The expressions of a definition are interpreted, never compiled: the page's policy allows no eval.

const dark = matchMedia("(prefers-color-scheme: dark)");
const themes = JSON.parse(document.getElementById("themes").textContent);
const hidden = new Map();
const views = new Map();

function options() {
  return {
    ast: true,
    actions: false,
    renderer: "svg",
    defaultStyle: false,
    config: themes[dark.matches ? "dark" : "light"],
    tooltip: { disableDefaultStyle: true, theme: "crashfree" },
  };
}

async function draw(plot) {
  const name = plot.dataset.plot;
  let place = plot.querySelector(".drawing");
  if (!place) {
    place = document.createElement("div");
    place.className = "drawing";
    plot.append(place);
  }
  try {
    views.get(plot)?.finalize();
    const definition = JSON.parse(plot.querySelector("script").textContent);
    const result = await window.vegaEmbed(place, definition, options());
    views.set(plot, result);
    if (hidden.has(name)) await show(result.view, name);
    plot.dataset.drawn = "yes";
  } catch (error) {
    plot.dataset.drawn = "no";
    place.textContent = "This plot cannot be drawn here; its figures are below.";
  }
}

function show(view, name) {
  return view.signal("hidden", [...hidden.get(name)]).runAsync();
}

// A legend's boxes hide and show series; they are ordinary boxes, so a keyboard works them too.
document.addEventListener("change", (event) => {
  const legend = event.target.closest?.(".legend[data-plot]");
  if (!legend) return;
  const name = legend.dataset.plot;
  hidden.set(name, new Set([...legend.querySelectorAll("input:not(:checked)")].map((box) => box.value)));
  for (const [plot, { view }] of views) {
    if (plot.dataset.plot === name && plot.isConnected) show(view, name);
  }
});

async function drawAll(root) {
  const found = root.matches?.(".plot") ? [root] : [...root.querySelectorAll(".plot")];
  for (const plot of found) await draw(plot);
}

document.addEventListener("live", (event) => drawAll(event.detail));
dark.addEventListener("change", () => drawAll(document));
drawAll(document);
