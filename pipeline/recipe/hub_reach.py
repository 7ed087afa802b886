"""Whether the Hugging Face hub answers, asked once: its libraries would try for minutes."""

import os
import ssl
import urllib.error
import urllib.request

from pipeline.recipe.schema import Recipe

HUB = "https://huggingface.co"
ANSWER_S = 5.0
OFFLINE = "HF_HUB_OFFLINE"  # the libraries' own switch: what is in the cache, and at once


def reach_hub(recipe: Recipe) -> str | None:
    """Have the hub's libraries, which must not be loaded yet, read the cache alone where a recipe
    needs a hub that does not answer; a line that says so."""
    return reach() if needs_hub(recipe) else None


def reach() -> str | None:
    """As `reach_hub`, where the hub is needed."""
    if OFFLINE in os.environ:
        return None
    fault = silence(endpoint())
    if fault is None:
        return None
    os.environ[OFFLINE] = "1"
    return f"{endpoint()} does not answer ({fault}); only what is in the Hugging Face cache is used"


def endpoint() -> str:
    """The hub's address: a mirror's, where the environment names one."""
    return os.environ.get("HF_ENDPOINT", HUB)


def silence(address: str) -> str | None:
    """Why nobody answers at an address; None where somebody does."""
    try:
        request = urllib.request.Request(address, method="HEAD")
        urllib.request.urlopen(request, timeout=ANSWER_S).close()
    except urllib.error.HTTPError:
        return None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):  # the libraries have certificates of their own
            return None
        return str(error.reason)
    except (OSError, ValueError) as error:  # a timeout, a line that is cut, or no address
        return str(error) or type(error).__name__
    return None


def needs_hub(recipe: Recipe) -> bool:
    """Whether a model or a data set of the recipe is named by a hub id."""
    own = [source for stage in recipe.stages.values() for source in stage.own_models.values()]
    models = [recipe.model, *own]
    hubs = [s.hub for s in (*models, *recipe.prompts.values()) if s.hub is not None]
    return any(not os.path.isdir(hub.partition(":")[0]) for hub in hubs)
