// Who is watching: one button for each profile, and one to add somebody. Names enter by textContent.
// Sends the trigger values `picked` (a member's id) and `added`.

const profile = (className, face, colour, name, spoken, act) => {
  const button = element("button", className);
  button.type = "button";
  button.setAttribute("aria-label", spoken);
  button.title = spoken;
  const picture = element("span", "face", face);
  if (colour) picture.style.background = colour;
  picture.setAttribute("aria-hidden", "true");
  button.append(picture, element("span", "name", name));
  button.addEventListener("click", act);
  const slot = element("li");
  slot.append(button);
  return slot;
};

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const people = parentElement.querySelector(".people");
  people.replaceChildren(
    ...data.profiles.map((one) => {
      const slot = profile(one.current ? "current" : "", one.initial, one.colour, one.name, one.label, () =>
        setTriggerValue("picked", one.id),
      );
      if (one.current) slot.firstChild.setAttribute("aria-current", "true");
      return slot;
    }),
    ...(data.may_add ? [profile("add", "+", "", "New", "Add a member", () => setTriggerValue("added", true))] : []),
  );
}
