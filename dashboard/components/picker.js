// A grid of titles to pick from: toggle buttons, every text by textContent.
// Sends the trigger value `toggled` (the title's id).

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
        name.style.fontSize = `${Math.max(8, title.size * 0.69)}px`;
        const tick = element("span", "tick", "✓");
        tick.setAttribute("aria-hidden", "true");
        button.append(tick, name, element("span", "foot", title.foot));
        button.addEventListener("click", () => {
          // Shown at once; the page's answer confirms it.
          button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
          root.toggle(title.id);
        });
        const slot = element("li");
        slot.append(button);
        return slot;
      }),
    );
  }
  root.toggle = (id) => setTriggerValue("toggled", id);
  for (const button of grid.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(data.chosen.includes(button.dataset.id)));
  }
  return realPosters(grid, data.cards);
}
