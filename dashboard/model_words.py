"""How pages call the four models of data.runs.MODELS, what each answers, and what is written with it."""

NAMES = {
    "recommender": "Recommender",
    "sentiment": "Sentiment",
    "engagement": "Engagement forecast",
    "retention": "Retention",
}
QUESTIONS = {
    "recommender": "What should this member watch next?",
    "sentiment": "What do people say about a title?",
    "engagement": "How much will be watched in the next weeks?",
    "retention": "Who is about to leave?",
}
# "Train ..."
TRAINED = {
    "recommender": "the recommender",
    "sentiment": "the sentiment model",
    "engagement": "the engagement forecast",
    "retention": "the retention model",
}
# "Score ..."
SCORED = {
    "recommender": "recommendations",
    "sentiment": "reviews",
    "engagement": "the forecast",
    "retention": "retention",
}
# "... will be here"
BRINGS = {
    "recommender": "recommendations",
    "sentiment": "review sentiment",
    "engagement": "the engagement forecast",
    "retention": "the chance that each member comes back",
}
