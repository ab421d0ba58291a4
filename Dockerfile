# docker build -t local-ai-measured .
# docker run --rm -it -p 127.0.0.1:8888:8888 -v local-ai-measured:/home/learner/work local-ai-measured
# Then open the address with the token that JupyterLab prints. What learners write is kept in the volume.
FROM python:3.12-slim
RUN useradd --create-home --uid 1000 learner && mkdir /home/learner/work && chown learner /home/learner/work \
    && mkdir /course && chown learner /course
USER 1000
WORKDIR /course
COPY --chown=1000 . .
RUN python3 course.py set-up && rm -rf /home/learner/.cache
ENV PATH=/course/.venv/bin:$PATH COURSE_WORKSPACE=/home/learner/work
EXPOSE 8888
# In a container, loopback cannot be reached from outside: JupyterLab's token is what protects it.
CMD ["sh", "-c", "course start && exec jupyter lab --ip=0.0.0.0 --port=8888 --no-browser --ServerApp.root_dir=$COURSE_WORKSPACE"]
