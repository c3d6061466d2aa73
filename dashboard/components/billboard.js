// The top pick over the whole width, with what can be done about it. Texts enter by textContent.
// Sends the trigger values `picked` (the title's id) and `acted` (the kind of an event, such as "watch").

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".billboard");
  root.style.background = data.background;
  root.setAttribute("aria-label", data.eyebrow);
  root.querySelector(".eyebrow").textContent = data.eyebrow;
  root.querySelector("h1").textContent = data.title;
  root.querySelector("h1").classList.toggle("long", data.title.length > 26);
  root.querySelector(".facts").textContent = data.facts;
  root.querySelector(".reason").textContent = data.reason;
  const actions = root.querySelector(".actions");
  if (root.shown === data.id) return;
  root.shown = data.id;
  const act = (action) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = action.kind === "watch" ? "main" : "";
    button.setAttribute("aria-label", action.spoken);
    button.textContent = action.label;
    button.onclick = () => {
      if (action.kind === "open") {
        setTriggerValue("picked", data.id);
        return;
      }
      // One click, one event: what comes next is another title.
      for (const other of actions.children) other.disabled = true;
      setTriggerValue("acted", action.kind);
    };
    return button;
  };
  actions.replaceChildren(...data.actions.map(act));
}
