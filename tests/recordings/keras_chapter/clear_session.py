# %% imports
import keras

# %% clear_session
keras.backend.clear_session()
keras.utils.clear_session()
