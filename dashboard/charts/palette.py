"""The colours of the dashboard, after Okabe and Ito (2008).

Readers with a colour vision deficiency can distinguish them, on a light and on a dark background.
"""

BLUE, ORANGE, GREEN, PINK = "#2a7fbf", "#e69f00", "#12a37a", "#cc79a7"
VERMILION, SKY, GREY, YELLOW = "#d55e00", "#56b4e9", "#8a939c", "#b79f00"
COLOR_CYCLE = (BLUE, ORANGE, GREEN, PINK, VERMILION, SKY, GREY, YELLOW)
"""Colours of lines that have no role of their own, in this order."""
STUDY_BADGES = {"finished": "green", "running": "orange", "interrupted": "violet", "failed": "red"}
"""State of a study → the colour of its badge, by Streamlit's names."""
TRIAL_BADGES = {"finished": "blue", "stopped": "gray", "failed": "red", "running": "orange", "queued": "gray", "paused": "violet"}
"""State of a trial → the colour of its badge, by Streamlit's names."""
