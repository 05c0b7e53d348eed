"""What `templates new` writes: a draft that renders at once and teaches the format."""

from __future__ import annotations

from typing import Final

STARTER: Final = """\
+++
# Front matter, in TOML. First, in one sentence, what it makes: `promptkit templates list` shows it.
description = "First line of a short video"

# Each variable is declared here, and what a caller gives is checked before anything is sent.
# Without a default it is required. Texts, numbers, true/false and lists; choices, lengths and bounds.
[variables.product]
description = "What the video is about"
min_length = 1
max_length = 300
default = "a steel bottle that keeps tea hot for ten hours"

[variables.tone]
description = "How it sounds"
choices = ["warm", "dry", "playful"]
default = "warm"

[variables.avoid]
description = "Words never to use"
max_length = 20
default = []

# What is asked of the model. The limit counts what it thinks, too: leave room.
[params]
max_output_tokens = 2000
reasoning = "low"
+++
{# A comment like this is never sent. All text stands in messages: "system", "user", "assistant".
   Put first what is the same in every call: providers bill a repeated beginning at a fraction.
   Text that several skeletons share goes into one of its own, and is included by its name. #}
{% message "system" %}
You write the first line of a short vertical video: spoken language, 12 words at most, no greeting, no brand name.
Answer with that line alone.
{% endmessage %}
{% message "user" %}
Product: {{ product }}
Tone: {{ tone }}
{% if avoid %}
Words never to use: {{ avoid|join(", ") }}
{% endif %}
{% endmessage %}
"""
