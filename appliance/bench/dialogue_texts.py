"""What the talkers of the conversation bench say; written for it, and tuned on by nobody."""

FURTHER_QUESTIONS = (
    "How many minutes are there in three hours?",
    "What is the name of the longest river in Africa?",
    "Who painted the Mona Lisa?",
    "Which metal is liquid at room temperature?",
    "How far away is the moon?",
    "What language do people speak in Brazil?",
    "What is twelve times eleven?",
    "Why is the sky blue?",
    "What do you call a baby cow?",
    "How long does it take to boil an egg?",
    "Is a tomato a fruit or a vegetable?",
    "Who was the first person on the moon?",
    "What is the freezing point of water?",
    "Name three animals that live in the desert.",
    "How many strings does a violin have?",
    "What is the capital of Australia?",
    "Tell me what photosynthesis is.",
    "Which country has the shape of a boot?",
    "How can I get a coffee stain out of a shirt?",
    "What comes after the letter Q?",
)

UNFINISHED = (
    "What is the capital, of Portugal?",
    "Can you tell me, how many legs a beetle has?",
    "I would like to know, why leaves turn red in autumn.",
    "Who wrote, um, the book about the white whale?",
    "What is the difference between, a crocodile and an alligator?",
    "How long does it take, to fly to the moon?",
    "Which planet has, um, the largest rings?",
    "Please explain to me, what a volcano is.",
    "If I mix red and yellow, which colour do I get?",
    "What was the name of, um, the first dog in space?",
    "Do you happen to know, when the telephone was invented?",
    "How do you say, good morning in French?",
    "What is fifteen, plus twenty seven?",
    "I have a question about, um, the planet Mars.",
    "Is it true that, cats can see in the dark?",
    "Give me the name of, a fruit that is yellow.",
)

INTERRUPTIONS = {
    "stop": (
        "Stop.",
        "Stop, please.",
        "Be quiet.",
        "Okay, stop talking.",
        "That's enough, thank you.",
        "Wait, wait.",
        "No, stop.",
    ),
    "redirect": (
        "No wait, tell me about elephants instead.",
        "Hold on, what is the capital of Spain?",
        "Stop, how many days are there in a week?",
        "Sorry, I meant to ask what a compass is.",
        "Actually, who invented the telephone?",
        "No, I want to know how bread is made.",
    ),
}

BACKCHANNELS = ("Mm-hmm.", "Okay.", "Yeah.", "Right.", "Uh-huh.", "I see.", "Yes.", "Oh.")

LONG_QUESTIONS = (
    "Tell me a story about a dragon and a princess.",
    "Explain to me how a refrigerator works.",
    "Tell me all about the life of elephants.",
    "What happened in the second world war?",
)

LONG_ANSWER = (
    "A lighthouse is a tower with a bright lamp at its top, which shows ships the way at night. "
    "The oldest ones were open fires on hills, and someone had to feed them with wood. "
    "Later the keepers burned oil, and put mirrors and glass lenses around the flame. "
    "Today nearly all of them are electric, and nobody needs to live there any more. "
    "Still, many people like to visit them, because one can see so far across the water."
)
"""Some 20 s."""

SHORTER_ANSWER = (
    "Bread needs only flour, water, salt and a little yeast, but it also needs time. "
    "Leave the dough in a warm place until it has doubled, then bake it in a hot oven."
)
"""Some 9 s."""
