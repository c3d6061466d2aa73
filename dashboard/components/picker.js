// A grid of titles to pick from: toggle buttons, every text by textContent.
// Sends the trigger value `picked`: `chosen`, all that is picked by now (ids, in the order of picking), and a `turn` that
// the page's answer repeats. All of it, because of several clicks before an answer the page hears of the last one alone.

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".picker");
  const grid = root.querySelector(".grid");
  const content = drawnOnly(data.cards);
  if (root.content !== content) {
    root.content = content;
    grid.replaceChildren(
      ...data.cards.map((title) => {
        const button = element("button", "card");
        button.type = "button";
        button.dataset.id = title.id;
        button.setAttribute("aria-label", title.name);
        button.style.background = title.background;
        const name = element("span", "title", title.title);
        name.style.setProperty("--size", `${title.size}px`); // on a whole poster, which is wider
        const tick = element("span", "tick", "✓");
        tick.setAttribute("aria-hidden", "true");
        button.append(tick, name, element("span", "foot", title.foot));
        button.addEventListener("click", () => {
          // Shown at once; the page's answer confirms it.
          button.setAttribute("aria-pressed", String(!root.chosen.includes(title.id)));
          root.toggle(title.id);
        });
        const slot = element("li");
        slot.append(button);
        return slot;
      }),
    );
  }
  if (root.turn === undefined || data.turn >= root.turn) {
    Object.assign(root, { turn: data.turn, chosen: data.chosen }); // else it answers an earlier click
  }
  root.toggle = (id) => {
    root.chosen = root.chosen.includes(id) ? root.chosen.filter((one) => one !== id) : [...root.chosen, id];
    root.turn += 1;
    setTriggerValue("picked", { turn: root.turn, chosen: root.chosen });
  };
  for (const button of grid.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(root.chosen.includes(button.dataset.id)));
  }
  return realPosters(grid, data.cards);
}
